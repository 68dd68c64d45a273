# KernelDNA in the neck alone.
_base_ = '../_base_/people.py'
model = dict(
    neck=dict(
        conv_cfg=dict(
            type='KernelDNA', norm_cfg=dict(type='GN', num_groups=4))))
