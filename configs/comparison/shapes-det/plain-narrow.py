# Plain, with KernelDNA's number of parameters.
_base_ = '../_base_/shapes-det.py'
model = dict(
    backbone=dict(base_channels=22, stem_channels=22),
    neck=dict(in_channels=[22, 44, 88, 176]))
