# Gates without a norm.
_base_ = '../_base_/shapes-seg.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(type='KernelDNA', name_pattern='^layer', norm_cfg=None)))
