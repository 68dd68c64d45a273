# Plain, with KernelDNA's number of parameters.
_base_ = '../_base_/bccd-random.py'
model = dict(
    backbone=dict(widen_factor=0.9), neck=dict(in_channels=[32, 88, 288]))
