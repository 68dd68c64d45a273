_base_ = [
    '../_base_/mmkdna.py',
    'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_ms-640-800-2x_coco.py'
]
model = dict(backbone=dict(type='KernelDNAResNet'))
