_base_ = './retinanet_r50-kdna_fpn_1x_coco.py'
model = dict(
    neck=dict(conv_cfg=dict(type='KernelDNA')),
    bbox_head=dict(conv_cfg=dict(type='KernelDNA')))
