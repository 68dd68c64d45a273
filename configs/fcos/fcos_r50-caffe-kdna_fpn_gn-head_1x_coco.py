_base_ = [
    '../_base_/mmkdna.py', 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
]
model = dict(backbone=dict(type='KernelDNAResNet'))
