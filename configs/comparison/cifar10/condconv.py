_base_ = '../_base_/cifar10.py'
model = dict(
    backbone=dict(conv_cfg=dict(type='CondConv', name_pattern='^layer')))
