_base_ = '../_base_/shapes-det.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(type='KernelWarehouse', name_pattern='^layer')))
