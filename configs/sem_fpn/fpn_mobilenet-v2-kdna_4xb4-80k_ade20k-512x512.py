_base_ = './fpn_mobilenet-v2-kdna_4xb4-160k_ade20k-512x512.py'
train_cfg = dict(max_iters=80000, val_interval=8000)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, end=80000, by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=8000))
