_base_ = [
    '../_base_/mmkdna.py', 'mmpretrain::res2net/res2net50-w26-s8_8xb32_in1k.py'
]
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
