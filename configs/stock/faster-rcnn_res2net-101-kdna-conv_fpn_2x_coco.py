_base_ = [
    '../_base_/mmkdna.py',
    'mmdet::res2net/faster-rcnn_res2net-101_fpn_2x_coco.py'
]
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
