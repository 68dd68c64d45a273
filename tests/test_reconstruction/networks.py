"""Plain networks, and ours with their weights and own kernels kept."""
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

RESNET = dict(base_channels=8, stem_channels=8, out_indices=(2, 3))
NETWORKS = dict(
    # The 3x3 share, a plain 1x1 reads them.
    bottleneck=dict(RESNET, type='mmpretrain.KernelDNAResNet', depth=50),
    # Both 3x3 share.
    basic=dict(RESNET, type='mmpretrain.ResNet', depth=18),
    # The expansions share.
    inverted=dict(type='mmdet.MobileNetV2', widen_factor=0.5),
    convnext=dict(
        type='mmpretrain.KernelDNAConvNeXt',
        arch=dict(depths=[1, 1, 4, 1], channels=[8, 16, 24, 32]),
        out_indices=(2, 3)),
    fpn=dict(
        type='mmdet.FPN',
        in_channels=[8, 12, 16],
        out_channels=16,
        num_outs=3,
        norm_cfg=dict(type='BN')),
    # A tower over several levels.
    head=dict(
        type='mmdet.RetinaHead',
        num_classes=3,
        in_channels=16,
        feat_channels=16,
        stacked_convs=3),
    # Towers that have convolutions in common, with norms of their own.
    towers=dict(
        type='mmdet.RTMDetSepBNHead',
        num_classes=3,
        in_channels=16,
        feat_channels=16,
        stacked_convs=3,
        share_conv=True,
        with_objectness=False,
        exp_on_reg=False,
        anchor_generator=dict(
            type='mmdet.MlvlPointGenerator', strides=[1, 2, 4]),
        norm_cfg=dict(type='BN'),
        act_cfg=dict(type='ReLU')))
EXPANSIONS = r'\.(?!0\.)\d+\.expand_conv'
CONV_CFG = dict(
    inverted=dict(kernel_sizes=(1, ), name_pattern=EXPANSIONS),
    fpn=dict(norm_cfg=dict(type='GN', num_groups=2)),
    head=dict(norm_cfg=dict(type='GN', num_groups=2)),
    towers=dict(norm_cfg=dict(type='GN', num_groups=2)))
# What reads features, of several sizes.
HEADS = 'head', 'towers'


def pictures(number, name='bottleneck', seed=None):
    """Smooth pictures, of different brightness and contrast.

    For necks and heads it is what they read, side by side in one tensor.
    """
    channels = dict(fpn=36, head=16, towers=16).get(name, 3)
    generator = None if seed is None else torch.Generator().manual_seed(seed)
    coarse = torch.randn(number, channels, 6, 6, generator=generator)
    coarse *= torch.rand(number, 1, 1, 1, generator=generator) + 0.5
    size = 24 if name in ('fpn', *HEADS) else 48
    return nn.functional.interpolate(coarse, size=size, mode='bilinear')


def forward(network, x):
    """Run a network on pictures."""
    if type(network).__name__ == 'FPN':
        features = x.split(network.in_channels, 1)
        return network(
            [f[..., ::2**i, ::2**i] for i, f in enumerate(features)])
    if type(network).__name__ in ('RetinaHead', 'RTMDetSepBNHead'):
        return network([x[..., ::2**i, ::2**i] for i in range(3)])
    return network(x)


def networks(name):
    """Build both, whose norms have statistics that belong to the weights."""
    cfg = dict(NETWORKS[name])
    pytest.importorskip(cfg['type'].partition('.')[0])
    theirs = MODELS.build(
        dict(cfg, sharing_stages=()) if 'KernelDNA' in cfg['type'] else cfg)
    theirs.init_weights()
    for module in theirs.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.3)
            module.momentum = None
        if getattr(module, 'gamma', None) is not None:
            nn.init.ones_(module.gamma)
        if name in HEADS and isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight)
    theirs.train()
    with torch.no_grad():
        for _ in range(8):
            forward(theirs, pictures(16, name))
    theirs.eval()
    conv_cfg = dict(type='KernelDNA', keep_own_kernel=True)
    ours = MODELS.build(
        dict(cfg, conv_cfg={
            **conv_cfg,
            **CONV_CFG.get(name, {})
        }))
    load_state_dict(ours, theirs.state_dict(), strict=True, logger='silent')
    ours.eval()
    return theirs, ours
