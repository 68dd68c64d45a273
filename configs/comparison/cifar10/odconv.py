_base_ = '../_base_/cifar10.py'
model = dict(
    backbone=dict(conv_cfg=dict(type='ODConv', name_pattern='^layer')))
# The method's own schedule, in a third of this one.
custom_hooks = [dict(type='TemperatureHook', end=2)]
