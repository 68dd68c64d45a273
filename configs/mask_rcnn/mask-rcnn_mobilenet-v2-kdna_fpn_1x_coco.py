_base_ = './mask-rcnn_r50-kdna_fpn_1x_coco.py'
model = dict(
    backbone=dict(
        _delete_=True,
        type='KernelDNAMobileNetV2',
        init_cfg=dict(
            type='Pretrained', checkpoint='torchvision://mobilenet_v2')),
    neck=dict(in_channels=[24, 32, 96, 1280]))
