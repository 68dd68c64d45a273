# From own kernels to derived ones, in the first half of the training.
_base_ = './kdna.py'
model = dict(backbone=dict(conv_cfg=dict(keep_own_kernel=True)))
custom_hooks = [dict(type='KernelSharingHook', end=210)]
cuda = {'custom_hooks.0.end': 1260}
