# Nothing but conv_cfg over the stock model.
_base_ = [
    '../_base_/mmkdna.py', 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py'
]
model = dict(backbone=dict(conv_cfg=dict(type='KernelDNA')))
