# Nothing but conv_cfg over the stock model.
_base_ = ['../_base_/mmkdna.py', 'mmdet::yolox/yolox_s_8xb8-300e_coco.py']
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    neck=dict(conv_cfg=dict(type='KernelDNA')),
    bbox_head=dict(conv_cfg=dict(type='KernelDNA')))
