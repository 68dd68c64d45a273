_base_ = './fcos_r50-caffe-kdna_fpn_gn-head_1x_coco.py'
model = dict(
    neck=dict(conv_cfg=dict(type='KernelDNA')),
    bbox_head=dict(conv_cfg=dict(type='KernelDNA')))
