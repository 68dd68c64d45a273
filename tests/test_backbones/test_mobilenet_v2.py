"""The paper's MobileNetV2 over each host library's class."""
import copy
import pickle

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmkdna import KernelDNAConv2d
from tests.utils import INSTALLED, children_of

# Child block to parent block, for both pointwise convolutions.
PAPER = {
    'layer3.1': 'layer3.2',
    'layer4.1': 'layer4.3',
    'layer4.2': 'layer4.3',
    'layer5.1': 'layer5.2',
    'layer6.1': 'layer6.2',
}
# Their names in the block of each host library.
POINTWISE = {
    'mmdet': ('expand_conv.conv', 'linear_conv.conv'),
    'mmpretrain': ('conv.0.conv', 'conv.2.conv'),
    'mmseg': ('conv.0.conv', 'conv.2.conv'),
}


def build(host='mmpretrain', **arguments):
    return MODELS.build(dict(type=f'{host}.KernelDNAMobileNetV2', **arguments))


def shapes_of(model):
    return {name: p.shape for name, p in model.named_parameters()}


def links_of(model):
    return {n: conv.parent_name for n, conv in children_of(model).items()}


@pytest.mark.parametrize('widen_factor, parameters', [(1.0, 3_136_840),
                                                      (0.5, 1_878_232)])
def test_parameters_as_a_classifier(widen_factor, parameters):
    classifier = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(
                type='mmpretrain.KernelDNAMobileNetV2',
                widen_factor=widen_factor),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=1000,
                in_channels=1280)))
    assert sum(p.numel() for p in classifier.parameters()) == parameters
    expected = shapes_of(classifier.backbone)
    for host, names in POINTWISE.items():
        if host not in INSTALLED:
            continue
        backbone = build(host, widen_factor=widen_factor)
        assert links_of(backbone) == {
            f'{child}.{name}': f'{parent}.{name}'
            for child, parent in PAPER.items()
            for name in names
        }
        if host == 'mmseg':  # whose class ends before the widest convolution
            expected = {
                n: s
                for n, s in expected.items() if not n.startswith('conv2.')
            }
        assert list(shapes_of(backbone).values()) == list(expected.values())


@pytest.mark.parametrize('stages, children', [
    ((), 0),
    ((2, ), 0),
    ((4, ), 4),
    ([5, 6], 4),
])
@pytest.mark.filterwarnings('ignore:KernelDNA')
def test_sharing_stages(stages, children):
    model = build(widen_factor=0.5, sharing_stages=stages)
    found = children_of(model)
    assert len(found) == children
    for name, conv in model.named_modules():
        if isinstance(conv, nn.Conv2d):
            shares = name.startswith('layer') and int(name[5]) in stages
            assert isinstance(conv, KernelDNAConv2d) == shares, name


@pytest.mark.parametrize('host', list(POINTWISE))
def test_the_control_is_the_hosts_network(host):
    control = build(host, widen_factor=0.5, sharing_stages=())
    control.eval()
    stock = type(control).__mro__[2]
    assert stock.__module__.startswith(f'{host}.')
    twin = stock(widen_factor=0.5)
    twin.eval()
    twin.load_state_dict(control.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(control(x), twin(x)):
        assert torch.equal(ours, theirs)


@pytest.mark.parametrize('host, arguments', [
    ('mmdet', dict(out_indices=(2, 4, 6), norm_eval=True)),
    ('mmdet', dict(with_cp=True, act_cfg=dict(type='ReLU'))),
    ('mmseg', dict(strides=(1, 2, 2, 1, 1, 1, 1), out_indices=(3, 6))),
    ('mmseg',
     dict(strides=(1, 2, 2, 1, 1, 1, 1), dilations=(1, 1, 1, 2, 2, 4, 4))),
    ('mmpretrain', dict(out_indices=(1, 7), frozen_stages=3)),
])
def test_the_hosts_options_keep_working(host, arguments):
    ours = build(host, widen_factor=0.5, **copy.deepcopy(arguments))
    ours.train()
    stock = type(ours).__mro__[2](widen_factor=0.5, **arguments)
    stock.train()
    assert len(children_of(ours)) == 10

    def skeleton(model):
        return {
            name:
            (module.training, getattr(module, 'stride',
                                      None), getattr(module, 'dilation', None),
             getattr(module, 'with_cp',
                     None), type(module).__name__.replace('KernelDNA', ''))
            for name, module in model.named_modules()
            if name and '.adapter' not in name
        }

    assert skeleton(ours) == skeleton(stock)
    theirs = dict(stock.named_parameters())
    for name, parameter in ours.named_parameters():
        if '.adapter' not in name:
            assert parameter.requires_grad == theirs[name].requires_grad
    x = torch.randn(2, 3, 64, 64)

    def shapes(outputs):
        return [y.shape for y in outputs]

    assert shapes(ours(x)) == shapes(stock(x))


@pytest.mark.parametrize('host', list(POINTWISE))
def test_frozen_stages_freeze_the_adapters(host):
    model = build(host, widen_factor=0.5, frozen_stages=4)
    model.train()
    for name, child in children_of(model).items():
        frozen = int(name[5]) <= 4
        for module in child.adapter.modules():
            assert module.training != frozen
        for parameter in child.parameters():
            assert parameter.requires_grad != frozen


@pytest.mark.parametrize('host', list(POINTWISE))
def test_it_is_picklable(host):
    model = build(host, widen_factor=0.5)
    model.eval()
    twin = pickle.loads(pickle.dumps(model))
    modules = set(twin.modules())
    assert links_of(twin) == links_of(model)
    assert all(c.parent in modules for c in children_of(twin).values())
    x = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(model(x), twin(x)):
        assert torch.equal(ours, theirs)


def test_conv_cfg_sets_the_options():
    model = build(
        widen_factor=0.5,
        conv_cfg=dict(type='KernelDNA', children_per_parent=1, rd_ratio=0.5))
    children = children_of(model)
    # Three kin in layer4: both first ones join the only parent.
    assert len(children) == 10
    gate = children['layer3.1.conv.0.conv'].adapter.gate
    assert gate.fc1.out_features == 8


@pytest.mark.parametrize('stages', [(0, ), (8, )])
def test_no_such_stage(stages):
    with pytest.raises(ValueError) as error:
        build(sharing_stages=stages)
    assert f'sharing_stages={stages}' in str(error.value)
    assert '(1, 2, 3, 4, 5, 6, 7) is expected' in str(error.value)


def test_a_foreign_conv_type():
    with pytest.raises(ValueError, match="dict\\(type='KernelDNA', ...\\)"):
        build(conv_cfg=dict(type='Conv2d'))
