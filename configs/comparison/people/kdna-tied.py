# Kernels merely tied, without adapters.
_base_ = '../_base_/people.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='KernelDNA',
            name_pattern='^layer',
            kernel_sizes=(1, ),
            modulation=())))
