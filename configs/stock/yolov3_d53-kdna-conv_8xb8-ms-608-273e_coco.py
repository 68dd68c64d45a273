_base_ = [
    '../_base_/mmkdna.py', 'mmdet::yolo/yolov3_d53_8xb8-ms-608-273e_coco.py'
]
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    neck=dict(conv_cfg=dict(type='KernelDNA')),
    bbox_head=dict(conv_cfg=dict(type='KernelDNA')))
