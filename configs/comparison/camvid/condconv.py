_base_ = '../_base_/camvid.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='CondConv', name_pattern='^layer', kernel_sizes=(1, ))))
