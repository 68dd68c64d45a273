# Only one part of the adapter.
_base_ = '../_base_/shapes-seg.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='KernelDNA', name_pattern='^layer', modulation=('filter', ))))
