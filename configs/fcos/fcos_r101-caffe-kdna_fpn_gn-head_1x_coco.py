_base_ = [
    '../_base_/mmkdna.py', 'mmdet::fcos/fcos_r101-caffe_fpn_gn-head-1x_coco.py'
]
model = dict(backbone=dict(type='KernelDNAResNet'))
