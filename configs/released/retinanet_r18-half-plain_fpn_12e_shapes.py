# The control of the demo's detector.
_base_ = '../shapes/retinanet_r18-half-kdna-conv_fpn_12e_shapes.py'
model = dict(
    backbone=dict(conv_cfg=None),
    neck=dict(conv_cfg=None),
    bbox_head=dict(conv_cfg=None))
