# In the last two stages that have kin, which hold most of what can be saved.
_base_ = '../_base_/people.py'
model = dict(
    backbone=dict(
        conv_cfg=dict(
            type='KernelDNA', name_pattern='^layer[56]', kernel_sizes=(1, ))))
