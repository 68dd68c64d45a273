_base_ = ['../_base_/mmkdna.py', 'mmdet::solov2/solov2_r50_fpn_1x_coco.py']
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    neck=dict(conv_cfg=dict(type='KernelDNA')))
