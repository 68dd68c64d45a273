_base_ = './atss_mobilenet-v2-kdna-expand_fpn_4e_bccd.py'
# Blocks with children are fitted on the training pictures first.
model = dict(backbone=dict(conv_cfg=dict(keep_own_kernel=True)))
custom_hooks = [dict(type='ChildFittingHook', num_batches=25)]
