# torchvision's weights, where the base has those of caffe.
_base_ = './fcos_r50-caffe-kdna_fpn_gn-head_1x_coco.py'
model = dict(
    data_preprocessor=dict(
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True),
    backbone=dict(
        _delete_=True,
        type='KernelDNAMobileNetV2',
        init_cfg=dict(
            type='Pretrained', checkpoint='torchvision://mobilenet_v2')),
    neck=dict(in_channels=[24, 32, 96, 1280]))
