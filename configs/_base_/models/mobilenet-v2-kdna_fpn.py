# What a detector with an FPN over a ResNet changes for MobileNetV2. Two bases
# may not set the same model, so that a config lays it over the other itself.
mobilenet_v2 = dict(
    backbone=dict(
        _delete_=True,
        type='KernelDNAMobileNetV2',
        init_cfg=dict(
            type='Pretrained', checkpoint='torchvision://mobilenet_v2')),
    neck=dict(in_channels=[24, 32, 96, 1280]))
