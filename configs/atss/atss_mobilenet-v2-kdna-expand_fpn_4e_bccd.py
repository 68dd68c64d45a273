_base_ = './atss_mobilenet-v2-kdna_fpn_4e_bccd.py'
# Only the expansions share, not the projections.
model = dict(
    backbone=dict(
        conv_cfg=dict(type='KernelDNA', name_pattern=r'\.[1-9]\.expand_conv')))
