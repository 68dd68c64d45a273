_base_ = ['../_base_/mmkdna.py', 'mmdet::solov2/solov2_r50_fpn_1x_coco.py']
# A gate's batch norm would see the two images of a GPU.
conv_cfg = dict(type='KernelDNA', norm_cfg=dict(type='GN', num_groups=4))
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA')),
    neck=dict(conv_cfg=conv_cfg))
