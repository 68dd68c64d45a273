_base_ = './mask-rcnn_r50-kdna_fpn_1x_coco.py'
# A gate's batch norm would see the two images of a GPU.
conv_cfg = dict(type='KernelDNA', norm_cfg=dict(type='GN', num_groups=4))
model = dict(
    neck=dict(conv_cfg=conv_cfg),
    roi_head=dict(mask_head=dict(conv_cfg=conv_cfg)))
