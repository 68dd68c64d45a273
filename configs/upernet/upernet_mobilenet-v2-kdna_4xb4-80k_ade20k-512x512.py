_base_ = './upernet_r50-kdna_4xb4-80k_ade20k-512x512.py'
model = dict(
    pretrained='mmcls://mobilenet_v2',
    backbone=dict(
        _delete_=True,
        type='KernelDNAMobileNetV2',
        out_indices=(1, 2, 4, 6),
        norm_cfg=dict(type='SyncBN', requires_grad=True)),
    decode_head=dict(in_channels=[24, 32, 96, 320]),
    auxiliary_head=dict(in_channels=96))
