_base_ = [
    '../_base_/mmkdna.py', 'mmdet::pafpn/faster-rcnn_r50_pafpn_1x_coco.py'
]
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    neck=dict(conv_cfg=dict(type='KernelDNA')))
