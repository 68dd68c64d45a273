_base_ = [
    './pspnet_r50-kdna-d8_4xb4-80k_ade20k-512x512.py',
    '../_base_/models/mobilenet-v2-kdna-d8.py'
]
model = _base_.mobilenet_v2
