_base_ = [
    '../_base_/mmkdna.py',
    'mmseg::pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py'
]
# deep_stem makes it a ResNetV1c, as in the base.
model = dict(backbone=dict(type='KernelDNAResNet', deep_stem=True))
