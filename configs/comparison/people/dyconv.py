_base_ = '../_base_/people.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='DyConv', name_pattern='^layer', kernel_sizes=(1, ))))
# The method's own schedule, in a third of this one.
custom_hooks = [dict(type='TemperatureHook', end=2)]
cuda = {'custom_hooks.0.end': 12}
