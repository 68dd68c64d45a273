_base_ = [
    '../_base_/mmkdna.py', 'mmdet::retinanet/retinanet_r50_fpn_2x_coco.py'
]
model = dict(backbone=dict(type='KernelDNAResNet'))
