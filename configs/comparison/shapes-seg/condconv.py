_base_ = '../_base_/shapes-seg.py'
model = dict(
    backbone=dict(conv_cfg=dict(type='CondConv', name_pattern='^layer')))
