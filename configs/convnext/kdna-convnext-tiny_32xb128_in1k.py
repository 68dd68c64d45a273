_base_ = [
    '../_base_/mmkdna.py', 'mmpretrain::convnext/convnext-tiny_32xb128_in1k.py'
]
model = dict(backbone=dict(type='KernelDNAConvNeXt'))
