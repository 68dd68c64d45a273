# Nothing but conv_cfg over the stock model.
_base_ = [
    '../_base_/mmkdna.py',
    'mmseg::upernet/upernet_r50_4xb4-80k_ade20k-512x512.py'
]
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
