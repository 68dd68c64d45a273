_base_ = './mask-rcnn_r50-kdna_fpn_1x_coco.py'
model = dict(
    neck=dict(conv_cfg=dict(type='KernelDNA')),
    roi_head=dict(mask_head=dict(conv_cfg=dict(type='KernelDNA'))))
