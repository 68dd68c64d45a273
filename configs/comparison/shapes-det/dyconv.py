_base_ = '../_base_/shapes-det.py'
model = dict(
    backbone=dict(conv_cfg=dict(type='DyConv', name_pattern='^layer')))
