_base_ = [
    '../_base_/mmkdna.py',
    'mmseg::deeplabv3plus/deeplabv3plus_r50-d8_4xb2-80k_cityscapes-512x1024.py'
]
# deep_stem makes it a ResNetV1c, as in the base.
model = dict(backbone=dict(type='KernelDNAResNet', deep_stem=True))
