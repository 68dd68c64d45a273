_base_ = '../_base_/bccd-pretrained.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='KernelWarehouse', name_pattern='^layer', kernel_sizes=(
                1, ))))
