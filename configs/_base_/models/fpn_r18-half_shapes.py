# A stock Semantic FPN that a CPU trains from random weights in minutes.
_base_ = 'mmseg::_base_/models/fpn_r50.py'
norm_cfg = dict(type='BN')
model = dict(
    data_preprocessor=dict(size=(128, 128)),
    pretrained=None,
    # A branch that starts at zero takes hundreds of steps to say anything.
    backbone=dict(
        type='ResNet',
        depth=18,
        base_channels=32,
        stem_channels=32,
        zero_init_residual=False,
        norm_cfg=norm_cfg),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64),
    # Most pixels are background, from which there is little to learn.
    decode_head=dict(
        in_channels=[64, 64, 64, 64],
        channels=64,
        num_classes=7,
        norm_cfg=norm_cfg,
        loss_decode=dict(class_weight=[1, 1, 1, 1, 1, 1, 0.3])))
