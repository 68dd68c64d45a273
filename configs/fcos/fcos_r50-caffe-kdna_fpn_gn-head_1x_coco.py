_base_ = [
    '../_base_/mmkdna.py', 'mmdet::fcos/fcos_r50-caffe_fpn_gn-head_1x_coco.py'
]
# The blocks it has more than stock start as identities, by a norm's weight of
# 0, and learn.
model = dict(
    backbone=dict(
        type='KernelDNAResNet', norm_cfg=dict(type='BN', requires_grad=True)))
