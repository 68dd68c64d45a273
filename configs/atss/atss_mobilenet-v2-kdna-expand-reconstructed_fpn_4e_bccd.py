_base_ = './atss_mobilenet-v2-kdna-expand_fpn_4e_bccd.py'
# What shares is fitted to the plain network on the training pictures first.
model = dict(backbone=dict(conv_cfg=dict(keep_own_kernel=True)))
custom_hooks = [dict(type='ReconstructionHook', num_batches=25)]
