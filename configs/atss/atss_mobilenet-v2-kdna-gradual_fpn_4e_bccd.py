_base_ = './atss_mobilenet-v2-kdna_fpn_4e_bccd.py'
# Children move from their own kernel to the derived one in half the training.
model = dict(
    backbone=dict(conv_cfg=dict(type='KernelDNA', keep_own_kernel=True)))
custom_hooks = [dict(type='KernelSharingHook', end=52)]
