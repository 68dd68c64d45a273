_base_ = [
    '../_base_/mmkdna.py', 'mmpretrain::seresnet/seresnet50_8xb32_in1k.py'
]
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
