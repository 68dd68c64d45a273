# In the last two stages alone, which hold most of what can be saved.
_base_ = '../_base_/cifar10.py'
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA', name_pattern='^layer[34]')))
