# Nothing but conv_cfg over the stock model.
_base_ = [
    '../_base_/mmkdna.py', 'mmdet::rtmdet/rtmdet_tiny_8xb32-300e_coco.py'
]
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    neck=dict(conv_cfg=dict(type='KernelDNA')),
    bbox_head=dict(conv_cfg=dict(type='KernelDNA')))
