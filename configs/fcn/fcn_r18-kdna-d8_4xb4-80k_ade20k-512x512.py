_base_ = [
    '../_base_/mmkdna.py', 'mmseg::fcn/fcn_r50-d8_4xb4-80k_ade20k-512x512.py'
]
# deep_stem makes it a ResNetV1c, as in the base.
model = dict(
    pretrained='open-mmlab://resnet18_v1c',
    backbone=dict(type='KernelDNAResNet', depth=18, deep_stem=True),
    decode_head=dict(in_channels=512, channels=128),
    auxiliary_head=dict(in_channels=256, channels=64))
