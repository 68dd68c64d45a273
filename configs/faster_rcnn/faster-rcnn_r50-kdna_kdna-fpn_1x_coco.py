_base_ = './faster-rcnn_r50-kdna_fpn_1x_coco.py'
model = dict(neck=dict(conv_cfg=dict(type='KernelDNA')))
