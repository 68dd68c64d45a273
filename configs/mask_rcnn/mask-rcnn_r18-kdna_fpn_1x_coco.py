_base_ = [
    '../_base_/mmkdna.py', 'mmdet::mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py'
]
model = dict(
    backbone=dict(
        type='KernelDNAResNet',
        depth=18,
        init_cfg=dict(type='Pretrained', checkpoint='torchvision://resnet18')),
    neck=dict(in_channels=[64, 128, 256, 512]))
