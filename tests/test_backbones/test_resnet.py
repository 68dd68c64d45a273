"""The paper's ResNets over each host library's class."""
import pickle

import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmkdna import KernelDNAConv2d
from tests.utils import INSTALLED, children_of, kernel_dna

HOSTS = ('mmdet', 'mmseg', 'mmpretrain')
BASIC = {
    '0.conv2': '1.conv2',
    '1.conv1': '1.conv2',
    '2.conv1': '2.conv2',
}
PAPER = {
    18: {
        f'layer{stage}.{child}': f'layer{stage}.{parent}'
        for stage in (3, 4)
        for child, parent in BASIC.items()
    },
    50: {
        'layer3.1.conv2': 'layer3.2.conv2',
        'layer3.3.conv2': 'layer3.4.conv2',
        'layer3.5.conv2': 'layer3.6.conv2',
        'layer4.1.conv2': 'layer4.2.conv2',
    }
}


def build(host='mmpretrain', depth=18, **arguments):
    return MODELS.build(
        dict(type=f'{host}.KernelDNAResNet', depth=depth, **arguments))


def small(host='mmpretrain', depth=18, **arguments):
    arguments.setdefault('base_channels', 16)
    if host == 'mmpretrain':
        arguments.setdefault('stem_channels', 16)
    return build(host, depth, **arguments)


def links_of(model):
    return {n: conv.parent_name for n, conv in children_of(model).items()}


def numbers_of_blocks(model):
    return [len(getattr(model, f'layer{i}')) for i in (1, 2, 3, 4)]


@pytest.mark.parametrize('depth, parameters', [(18, 9_240_798),
                                               (50, 22_778_060)])
def test_parameters_as_a_classifier(depth, parameters):
    classifier = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(type='mmpretrain.KernelDNAResNet', depth=depth),
            neck=dict(type='mmpretrain.GlobalAveragePooling'),
            head=dict(
                type='mmpretrain.LinearClsHead',
                num_classes=1000,
                in_channels=512 if depth == 18 else 2048)))
    assert sum(p.numel() for p in classifier.parameters()) == parameters
    shapes = {
        key: value.shape
        for key, value in classifier.backbone.state_dict().items()
    }
    for host in INSTALLED:
        backbone = build(host, depth)
        assert {k: v.shape for k, v in backbone.state_dict().items()} == shapes
        assert links_of(backbone) == PAPER[depth]


@pytest.mark.parametrize('depth, blocks', [(18, [2, 2, 3, 3]),
                                           (34, [3, 4, 7, 3]),
                                           (50, [3, 4, 7, 3]),
                                           (101, [3, 4, 23, 3])])
def test_topologies(depth, blocks):
    model = small(depth=depth)
    assert numbers_of_blocks(model) == blocks
    # All 3x3 convolutions of the sharing stages take part, but for the
    # first, which has another shape or is the first block's.
    convs = [
        c for c in kernel_dna(model).values()
        if c.kernel_size == (3, 3) and c.role == 'plain'
    ]
    assert len(convs) == 2
    sharing = sum(blocks[2:]) * (2 if depth < 50 else 1) - 2
    assert len(children_of(model)) == (sharing + (2 if depth < 50 else 0)) // 2


def test_parents_stay_where_they_are_in_resnet34():
    links = links_of(small(depth=34))
    assert links['layer3.0.conv2'] == links['layer3.1.conv1'] == \
        'layer3.1.conv2'
    assert links['layer3.6.conv1'] == 'layer3.6.conv2'
    assert len(links) == 7 + 3


@pytest.mark.parametrize('stages, children', [
    ((1, ), 2),
    ((2, ), 2),
    ((4, ), 3),
    ([1, 2, 3, 4], 10),
    ((), 0),
])
def test_sharing_stages(stages, children):
    model = small(sharing_stages=stages)
    assert numbers_of_blocks(model) == [2, 2, 3, 3]
    found = children_of(model)
    assert len(found) == children
    assert {int(name[5]) for name in found} == set(stages)
    for name, conv in model.named_modules():
        if isinstance(conv, nn.Conv2d):
            shares = name.startswith('layer') and int(name[5]) in stages
            assert isinstance(conv, KernelDNAConv2d) == shares, name


@pytest.mark.parametrize('host', HOSTS)
def test_it_is_picklable(host):
    model = small(host)
    model.eval()
    twin = pickle.loads(pickle.dumps(model))
    convs = set(kernel_dna(twin).values())
    assert links_of(twin) == PAPER[18]
    assert all(c.parent in convs for c in children_of(twin).values())
    x = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(model(x), twin(x)):
        assert torch.equal(ours, theirs)


def test_conv_cfg_sets_the_options():
    model = small(conv_cfg=dict(type='mmkdna.KernelDNA', rd_ratio=0.5))
    assert {
        c.adapter.gate.fc1.out_features
        for c in children_of(model).values()
    } == {32, 64}
    single = dict(type='KernelDNA', children_per_parent=None)
    assert set(links_of(small(conv_cfg=single)).values()) == {
        'layer3.2.conv2', 'layer4.2.conv2'
    }
    wider = dict(type='KernelDNA', name_pattern='')
    assert len(children_of(small(depth=50, conv_cfg=wider))) == 4 + 2


@pytest.mark.parametrize(
    'kind', [KernelDNAConv2d, 'mmkdna.KernelDNAConv2d'], ids=str)
def test_conv_cfg_names_a_class(kind):
    model = small(conv_cfg=dict(type=kind))
    assert links_of(model) == links_of(small())


def test_init_weights_leaves_a_new_adapter_as_it_is():
    model = small(init_cfg=[
        dict(type='Kaiming', layer='Conv2d'),
        dict(type='Constant', val=1, layer='_BatchNorm')
    ])
    before = {n: p.clone() for n, p in model.named_parameters()}
    model.init_weights()
    for name, parameter in model.named_parameters():
        if 'adapter' in name:
            assert torch.equal(parameter, before[name]), name
        elif parameter.dim() == 4:
            assert not torch.equal(parameter, before[name]), name


@pytest.mark.parametrize('depth', [152, 20, '50', None])
def test_no_such_depth(depth):
    with pytest.raises(ValueError) as error:
        build(depth=depth)
    assert f'depth={depth!r} is given' in str(error.value)
    assert '(18, 34, 50, 101) is expected' in str(error.value)


@pytest.mark.parametrize('stages', [(0, ), (3, 5), ('layer3', )])
def test_no_such_stage(stages):
    with pytest.raises(ValueError) as error:
        build(sharing_stages=stages)
    assert f'sharing_stages={stages}' in str(error.value)
    assert '(1, 2, 3, 4) is expected, or ()' in str(error.value)


@pytest.mark.parametrize('conv_cfg', [dict(type='DCNv2'), dict(), None])
@pytest.mark.parametrize('stages', [(3, 4), ()])
def test_a_foreign_conv_type(conv_cfg, stages):
    with pytest.raises(ValueError) as error:
        build(conv_cfg=conv_cfg, sharing_stages=stages)
    message = str(error.value)
    assert f'conv_cfg={conv_cfg} is given' in message
    assert "dict(type='KernelDNA', ...) is expected" in message
    assert 'sharing_stages=()' in message
