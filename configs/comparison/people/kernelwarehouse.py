# What leads into a stage has the cells of the stage before.
_base_ = '../_base_/people.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='KernelWarehouse',
            earlier_pattern=r'\.0\.expand_conv',
            name_pattern='^layer',
            kernel_sizes=(1, ))))
# The method's own schedule, in a third of this one.
custom_hooks = [dict(type='TemperatureHook', end=2)]
cuda = {'custom_hooks.0.end': 12}
