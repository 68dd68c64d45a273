_base_ = './deeplabv3plus_mobilenet-v2-kdna-d8_4xb4-80k_ade20k-512x512.py'
train_cfg = dict(max_iters=160000, val_interval=16000)
param_scheduler = [
    dict(type='PolyLR', eta_min=1e-4, power=0.9, end=160000, by_epoch=False)
]
default_hooks = dict(checkpoint=dict(interval=16000))
