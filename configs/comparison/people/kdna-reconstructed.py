# Reconstructed first, on the training pictures and without labels.
_base_ = './kdna.py'
model = dict(backbone=dict(conv_cfg=dict(keep_own_kernel=True)))
custom_hooks = [dict(type='ReconstructionHook', num_batches=70, steps=320)]
