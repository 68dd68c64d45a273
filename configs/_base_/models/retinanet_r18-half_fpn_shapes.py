# A stock RetinaNet that a CPU trains from random weights in minutes.
_base_ = 'mmdet::_base_/models/retinanet_r50_fpn.py'
model = dict(
    # A branch that starts at zero takes hundreds of steps to say anything.
    backbone=dict(
        depth=18,
        base_channels=32,
        stem_channels=32,
        zero_init_residual=False,
        frozen_stages=-1,
        norm_eval=False,
        init_cfg=None),
    neck=dict(in_channels=[32, 64, 128, 256], out_channels=64, num_outs=3),
    # Levels differ in their statistics, so the norm of the head is no BN.
    bbox_head=dict(
        num_classes=6,
        in_channels=64,
        feat_channels=64,
        norm_cfg=dict(type='GN', num_groups=16),
        anchor_generator=dict(octave_base_scale=3, strides=[8, 16, 32])))
