_base_ = './atss_mobilenet-v2-kdna-expand_fpn_4e_bccd.py'
model = dict(backbone=dict(conv_cfg=dict(keep_own_kernel=True)))
custom_hooks = [dict(type='KernelSharingHook', end=52)]
