_base_ = [
    '../_base_/mmkdna.py', 'mmdet::faster_rcnn/faster-rcnn_r50_fpn_2x_coco.py'
]
model = dict(backbone=dict(type='KernelDNAResNet'))
