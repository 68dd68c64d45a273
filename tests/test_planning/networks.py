"""Small networks, ready to be planned."""
import torch
from mmengine.config import Config

from mmkdna.launch.model import build_model
from mmkdna.planning import Split, find_units, unlinked_config
from tests.utils import randomize

BOTTLENECKS = dict(
    type='ResNet',
    depth=50,
    base_channels=4,
    stem_channels=8,
    num_stages=2,
    strides=(1, 2),
    dilations=(1, 1),
    out_indices=(1, ))


def classifier(backbone=BOTTLENECKS, channels=32, **conv_cfg):
    """Config of a classifier of mmpretrain."""
    backbone = dict(backbone)
    if conv_cfg:
        backbone['conv_cfg'] = conv_cfg
    return Config(
        dict(
            default_scope='mmpretrain',
            model=dict(
                type='ImageClassifier',
                backbone=backbone,
                neck=dict(type='GlobalAveragePooling'),
                head=dict(
                    type='LinearClsHead', num_classes=3,
                    in_channels=channels))))


def unlinked(cfg):
    """A plain network of a config, with values that leave traces."""
    torch.manual_seed(0)
    model = build_model(unlinked_config(cfg, find_units(cfg))).eval()
    for module in model.modules():
        if 'weight' in getattr(module, '_parameters', {}):
            if module.weight.ndim == 1:
                randomize(module)
                module.weight.data.abs_().add_(0.5)
    return model


def split(size=32, number=8):
    """Random pictures."""
    generator = torch.Generator().manual_seed(0)
    return Split(*([torch.randn(number, 3, size, size, generator=generator)]
                   for _ in range(3)))
