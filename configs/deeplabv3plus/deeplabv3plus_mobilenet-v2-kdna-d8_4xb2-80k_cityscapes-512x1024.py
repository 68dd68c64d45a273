_base_ = [
    './deeplabv3plus_r50-kdna-d8_4xb2-80k_cityscapes-512x1024.py',
    '../_base_/models/mobilenet-v2-kdna-d8.py'
]
model = _base_.mobilenet_v2
model.decode_head.c1_in_channels = 24
