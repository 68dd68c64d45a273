# Adapters on own kernels: nothing is shared.
_base_ = '../_base_/shapes-seg.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(type='KernelDNA', name_pattern='^layer', share=False)))
