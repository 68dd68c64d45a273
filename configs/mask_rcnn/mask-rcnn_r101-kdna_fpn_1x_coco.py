_base_ = [
    '../_base_/mmkdna.py', 'mmdet::mask_rcnn/mask-rcnn_r101_fpn_1x_coco.py'
]
model = dict(backbone=dict(type='KernelDNAResNet'))
