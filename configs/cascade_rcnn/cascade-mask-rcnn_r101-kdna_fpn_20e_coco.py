_base_ = [
    '../_base_/mmkdna.py',
    'mmdet::cascade_rcnn/cascade-mask-rcnn_r101_fpn_20e_coco.py'
]
model = dict(backbone=dict(type='KernelDNAResNet'))
