# Squeeze-and-excitation on each convolution.
_base_ = '../_base_/people.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='SEConv', name_pattern='^layer', kernel_sizes=(1, ))))
