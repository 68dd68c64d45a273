# Plain, with KernelDNA's number of parameters.
_base_ = '../_base_/cifar10.py'
model = dict(
    backbone=dict(base_channels=11, stem_channels=11),
    head=dict(in_channels=88))
