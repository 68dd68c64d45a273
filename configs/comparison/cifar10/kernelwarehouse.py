# What leads into a stage has the cells of the stage before.
_base_ = '../_base_/cifar10.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='KernelWarehouse',
            earlier_pattern=r'\.0\.conv1',
            name_pattern='^layer')))
# The method's own schedule, in a third of this one.
custom_hooks = [dict(type='TemperatureHook', end=2)]
