"""The models of the matrix, tiny, each beside its stock form."""
import warnings

import torch
from mmengine.registry import MODELS, DefaultScope
from torch import nn

from mmkdna.rivals.rival import Rival
from tests.test_deploy import perturb

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
CONV = dict(type='KernelDNA')
BN = dict(type='BN')
RESNET = dict(depth=18, base_channels=8, stem_channels=8)


def _detector(conv_cfg):
    return dict(
        type='mmdet.RetinaNet',
        backbone=dict(
            type='mmdet.ResNet',
            **RESNET,
            norm_cfg=BN,
            norm_eval=False,
            out_indices=(1, 2, 3),
            conv_cfg=conv_cfg),
        neck=dict(
            type='mmdet.FPN',
            in_channels=[16, 32, 64],
            out_channels=8,
            num_outs=3,
            conv_cfg=conv_cfg),
        bbox_head=dict(
            type='mmdet.RetinaHead',
            num_classes=2,
            in_channels=8,
            feat_channels=8,
            stacked_convs=2,
            conv_cfg=conv_cfg,
            anchor_generator=dict(
                type='mmdet.AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=1,
                ratios=[1.0],
                strides=[8, 16, 32]),
            bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder')))


def _segmentor(conv_cfg):
    return dict(
        type='mmseg.EncoderDecoder',
        backbone=dict(
            type='mmseg.ResNet',
            **RESNET,
            norm_cfg=BN,
            out_indices=(0, 1, 2, 3),
            conv_cfg=conv_cfg),
        decode_head=dict(
            type='mmseg.FCNHead',
            in_channels=[8, 16, 32, 64],
            in_index=[0, 1, 2, 3],
            input_transform='resize_concat',
            channels=8,
            num_convs=3,
            num_classes=3,
            conv_cfg=conv_cfg,
            norm_cfg=BN,
            align_corners=False))


def _backbone(name, **arguments):
    return lambda **sharing: dict(
        type=f'mmpretrain.KernelDNA{name}', **arguments, **sharing)


RESNET_BACKBONE = _backbone('ResNet', **RESNET)
MOBILENET = _backbone('MobileNetV2', widen_factor=0.25)
CONVNEXT = _backbone(
    'ConvNeXt',
    arch=dict(depths=[1, 1, 4, 2], channels=[8, 16, 16, 32]),
    layer_scale_init_value=0.5)
PLAIN = dict(sharing_stages=())
# Host library, the config, and the config of the stock form.
CASES = {
    'detector': ('mmdet', _detector(CONV), _detector(None)),
    'segmentor': ('mmseg', _segmentor(CONV), _segmentor(None)),
    'KernelDNAResNet':
    ('mmpretrain', RESNET_BACKBONE(), RESNET_BACKBONE(**PLAIN)),
    'KernelDNAMobileNetV2': ('mmpretrain', MOBILENET(), MOBILENET(**PLAIN)),
    'KernelDNAConvNeXt': ('mmpretrain', CONVNEXT(), CONVNEXT(**PLAIN)),
    'segmentor with DyConv':
    ('mmseg', _segmentor(dict(type='DyConv')), _segmentor(None)),
}
# Those whose convolutions are of another type.
RIVALS = ('segmentor with DyConv', )


class Answer(nn.Module):
    """All that a model computes, as one vector."""

    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, x):
        return torch.cat(_flat(self.model(x)))

    def train(self, mode=True):
        # Some train() of the host libraries return nothing.
        super().train(mode)
        return self


def _flat(value):
    if isinstance(value, (list, tuple)):
        return [item for part in value for item in _flat(part)]
    return [value.flatten()]


def build(name, stock=False):
    """A model of the matrix in eval mode, no parameter at its start.

    Args:
        name (str): One of CASES.
        stock (bool): Whether without what is ours. Defaults to False.

    Returns:
        Answer: The same at every call.
    """
    cfg = CASES[name][1 + stock]
    with torch.random.fork_rng(), warnings.catch_warnings(), \
            DefaultScope.overwrite_default_scope(CASES[name][0]):
        warnings.simplefilter('ignore')
        torch.manual_seed(0)
        net = Answer(perturb(MODELS.build(cfg)))
        with torch.no_grad():
            for key, parameter in net.named_parameters():
                # Gates that depend on the image.
                if key.endswith('fc2.weight'):
                    parameter.normal_(std=0.5)
    return net.eval()


def shared_convs(net):
    """The convolutions that share or are dynamic; of a stock net, the 3x3.

    Returns:
        dict[str, tuple[nn.Module, str]]: By name, with the name of the
        parameter that is the kernel.
    """
    found = {
        name: (conv, 'experts' if isinstance(conv, Rival) else 'weight')
        for name, conv in net.named_modules()
        if getattr(conv, 'role', 'plain') != 'plain'
        or getattr(conv, 'adapter', None) is not None
        or getattr(conv, 'dynamic', False)
    }
    return found or {
        name: (conv, 'weight')
        for name, conv in net.named_modules()
        if type(conv) is nn.Conv2d and max(conv.kernel_size) > 1
    }
