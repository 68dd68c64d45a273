# Adapters with five times the learning rate, and without weight decay.
_base_ = '../_base_/cifar10.py'
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA', name_pattern='^layer')))
optim_wrapper = dict(
    paramwise_cfg=dict(
        custom_keys={'.adapter.': dict(lr_mult=5, decay_mult=0)}))
