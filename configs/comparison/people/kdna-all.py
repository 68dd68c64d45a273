# KernelDNA in backbone, neck and head.
_base_ = '../_base_/people.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='KernelDNA', name_pattern='^layer', kernel_sizes=(1, ))),
    neck=dict(
        conv_cfg=dict(
            type='KernelDNA', norm_cfg=dict(type='GN', num_groups=4))),
    bbox_head=dict(
        conv_cfg=dict(
            type='KernelDNA', norm_cfg=dict(type='GN', num_groups=4))))
