_base_ = '../_base_/people.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='CondConv', name_pattern='^layer', kernel_sizes=(1, ))))
