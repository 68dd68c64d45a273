_base_ = [
    '../_base_/mmkdna.py', 'mmseg::sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py'
]
# deep_stem makes it a ResNetV1c, as in the base.
model = dict(backbone=dict(type='KernelDNAResNet', deep_stem=True))
