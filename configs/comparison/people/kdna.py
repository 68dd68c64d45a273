# KernelDNA by conv_cfg in the backbone.
_base_ = '../_base_/people.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='KernelDNA', name_pattern='^layer', kernel_sizes=(1, ))))
