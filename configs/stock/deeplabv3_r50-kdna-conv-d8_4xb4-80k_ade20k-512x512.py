_base_ = [
    '../_base_/mmkdna.py',
    'mmseg::deeplabv3/deeplabv3_r50-d8_4xb4-80k_ade20k-512x512.py'
]
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
