"""The authors' layer sets have the authors' numbers of parameters."""
import pytest
from mmengine.registry import MODELS
from torch import nn

from mmkdna.rivals import CONV_TYPES, LAYER_SETS

NETWORKS = dict(
    resnet18=dict(type='mmpretrain.ResNet', depth=18),
    resnet50=dict(type='mmpretrain.ResNet', depth=50),
    mobilenet_v2=dict(type='mmpretrain.MobileNetV2'),
)
CLASSES = 1000


def build(network, **further):
    return MODELS.build(dict(NETWORKS[network], **further))


def parameters(module):
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize('kind, network, further, conv, millions', [
    ('CondConv', 'resnet18', {}, {}, 81.35),
    ('CondConv', 'resnet50', {}, {}, 129.87),
    ('CondConv', 'mobilenet_v2', {}, {}, 22.88),
    ('DyConv', 'resnet18', {}, {}, 45.47),
    ('DyConv', 'resnet50', {}, {}, 100.87),
    ('DyConv', 'mobilenet_v2', {}, {}, 12.40),
    ('ODConv', 'resnet18', {}, {}, 11.94),
    ('ODConv', 'resnet50', {}, {}, 28.64),
    ('ODConv', 'mobilenet_v2', {}, {}, 4.94),
    ('ODConv', 'mobilenet_v2', dict(widen_factor=0.5), {}, 2.43),
    ('ODConv', 'resnet18', {}, dict(num_experts=4), 44.90),
    ('ODConv', 'resnet50', {}, dict(num_experts=4), 90.67),
    ('ODConv', 'mobilenet_v2', {}, dict(num_experts=4), 11.51),
    ('ODConv', 'mobilenet_v2', dict(widen_factor=0.5), dict(num_experts=4),
     4.44),
    ('KernelWarehouse', 'resnet18', {}, {}, 11.93),
    ('KernelWarehouse', 'resnet18', {}, dict(ratio=4), 45.86),
    ('KernelWarehouse', 'resnet50', {}, {}, 28.05),
    ('KernelWarehouse', 'resnet50', {}, dict(ratio=4), 102.02),
    ('KernelWarehouse', 'mobilenet_v2', {}, {}, 5.17),
    ('KernelWarehouse', 'mobilenet_v2', dict(widen_factor=0.5), {}, 2.85),
])
def test_parameters_of_the_papers(kind, network, further, conv, millions):
    conv_cfg = dict(LAYER_SETS[kind][network], type=kind, **conv)
    features = dict(resnet18=512, resnet50=2048, mobilenet_v2=1280)[network]
    number = parameters(build(network, conv_cfg=conv_cfg, **further))
    number += features * CLASSES + CLASSES
    if kind == 'CondConv':
        # Its authors' classifier has 8 experts and a router too.
        number += 7 * features * CLASSES + 8 * (features + 1)
    assert round(number / 1e6, 2) == millions


@pytest.mark.parametrize('network, plain', [
    ('resnet18', ['conv1']),
    ('resnet50', ['conv1', 'layer1.0.conv1', 'layer1.0.downsample.0']),
])
def test_what_kernel_warehouse_leaves_plain(network, plain):
    choice = CONV_TYPES['KernelWarehouse'].options_type(
        **LAYER_SETS['KernelWarehouse'][network])
    convs = {
        name: module
        for name, module in build(network).named_modules()
        if isinstance(module, nn.Conv2d)
    }
    taken = {name for name, conv in convs.items() if choice.take(name, conv)}
    assert sorted(set(convs) - taken) == plain
