"""KernelWarehouse: its formula, who shares a warehouse, its start."""
import math

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mmkdna import link_kernels
from mmkdna.rivals import KernelWarehouse2d
from mmkdna.rivals.kernel_warehouse import CellAttention
from tests.test_rivals.cases import (EVERYTHING, close, compare_with,
                                     geometries, make)
from tests.test_rivals.reference import kernel_warehouse

# Of different shapes and kernel sizes; a cell has 8 by 4 channels.
SHAPES = [
    dict(in_channels=4, kernel_size=3, padding=1),
    dict(out_channels=16, kernel_size=1, bias=False),
    dict(in_channels=16, kernel_size=3, stride=2, padding=1),
    dict(kernel_size=(1, 3), padding='same'),
]
MIXTURES = [9, 2 * 2, 4 * 9, 2 * 3]
AUTHORS = dict(
    type='KernelWarehouse',
    kernel_sizes=(1, 3),
    shortcuts=True,
    earlier_pattern=r'\.0\.(conv1|downsample)')
# R50's first 1x1 convolution and its shortcut of stride 1 are plain.
AUTHORS_R50 = dict(AUTHORS, name_pattern=r'^layer(?!1\.0\.(conv1|downsample))')


def warehouses(unit):
    """Names of those that share a warehouse, by their owner's name."""
    found = {}
    names = {module: name for name, module in unit.named_modules()}
    for name, conv in unit.named_modules():
        if isinstance(conv, KernelWarehouse2d) and conv.dynamic:
            found.setdefault(names[conv.owner[0]], []).append(name)
    return found


def set_progress(unit, progress):
    for conv in unit.modules():
        if isinstance(conv, KernelWarehouse2d) and conv.dynamic:
            conv.set_progress(progress)


def reference(unit, x):
    """Convolutions one after another that have one warehouse."""
    for conv in unit[0]:
        x = kernel_warehouse(conv, x, list(unit[0]))
    return x


def plain_twin(unit):
    """A unit of plain convolutions of the same shapes, in float64."""
    convs = [
        nn.Conv2d(c.in_channels, c.out_channels, c.kernel_size, c.stride,
                  c.padding, c.dilation, c.groups, c.bias is not None)
        for c in unit[0]
    ]
    return nn.Sequential(nn.Sequential(*convs)).double()


def resnet(depth, conv_cfg):
    """A ResNet of mmpretrain."""
    pytest.importorskip('mmpretrain')
    from mmpretrain.registry import MODELS
    with DefaultScope.overwrite_default_scope('mmpretrain'):
        backbone = MODELS.build(
            dict(type='ResNet', depth=depth, conv_cfg=conv_cfg))
    backbone.eval()
    return backbone


@geometries
@pytest.mark.parametrize('number', [1, 3])
def test_the_formula(geometry, number):
    unit = make('KernelWarehouse', geometry)
    set_progress(unit, 0.7)
    compare_with(reference, unit, torch.randn(number, 8, 7, 7).double())


@geometries
def test_no_image(geometry):
    unit = make('KernelWarehouse', geometry)
    x = torch.randn(0, 8, 7, 7).double()
    out = unit(x)
    assert out.shape == (0, *unit(x.new_zeros(1, 8, 7, 7)).shape[1:])
    out.sum().backward()
    assert all(p.grad is not None for p in unit.parameters())


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('ratio', [1, 0.3, 3])
@pytest.mark.parametrize('progress', [0, 0.7, 1])
def test_several_shapes_in_one_warehouse(progress, ratio, training):
    unit = make('KernelWarehouse', *SHAPES, ratio=ratio).train(training)
    set_progress(unit, progress)
    owner = unit[0][0]
    assert owner.cells.shape == (math.ceil(ratio * sum(MIXTURES)), 8, 4)
    compare_with(reference, unit, torch.randn(3, 4, 7, 7).double())


def test_smaller_cells():
    unit = make('KernelWarehouse', *SHAPES, cell_divisor=2)
    assert unit[0][0].cells.shape == (4 * sum(MIXTURES), 4, 2)
    depthwise = dict(kernel_size=3, groups=8)
    unit = make('KernelWarehouse', depthwise, cell_divisor=2)
    assert unit[0][0].cells.shape == (2 * 9, 4, 1)
    conv = KernelWarehouse2d(8, 6, 3, cell_divisor=4)
    with pytest.raises(ValueError, match='cell_divisor=4.*6 by 8 channels'):
        link_kernels(nn.Sequential(nn.Sequential(conv)))
    assert not conv.dynamic and not conv.linked


def test_who_shares_a_warehouse():
    conv_cfg = dict(AUTHORS, name_pattern='layer[12]|layer3.0')
    unit = resnet(18, conv_cfg)
    assert warehouses(unit) == {
        'layer1.0.conv1': [
            'layer1.0.conv1', 'layer1.0.conv2', 'layer1.1.conv1',
            'layer1.1.conv2', 'layer2.0.conv1', 'layer2.0.downsample.0'
        ],
        'layer2.0.conv2': [
            'layer2.0.conv2', 'layer2.1.conv1', 'layer2.1.conv2',
            'layer3.0.conv1', 'layer3.0.downsample.0'
        ],
        'layer3.0.conv2': ['layer3.0.conv2']
    }
    # Each warehouse is once in the state dict, at its owner.
    assert [k[:-6] for k in unit.state_dict()
            if k.endswith('.cells')] == list(warehouses(unit))
    conv_cfg = dict(
        type='KernelWarehouse', stage_level=0, name_pattern='layer[12]')
    assert list(warehouses(resnet(18, conv_cfg))) == ['layer1.0.conv1']


def test_cells_too_small_for_an_attention():
    with pytest.raises(ValueError, match='conv1, layer1.0.conv1.* 64 by 1 '):
        resnet(18, dict(type='KernelWarehouse', stage_level=0))


def test_who_has_a_warehouse_in_common_with_grouped_convolutions():
    unit = make('KernelWarehouse', dict(kernel_size=3),
                dict(kernel_size=3, groups=8), dict(kernel_size=3, groups=2),
                dict(kernel_size=1),
                dict(kernel_size=1, in_channels=16, groups=4),
                dict(kernel_size=3, groups=8))
    assert warehouses(unit) == {
        '0.0': ['0.0', '0.3'],
        '0.1': ['0.1', '0.5'],
        '0.2': ['0.2', '0.4']
    }


@pytest.mark.parametrize('depth, options, expected', [
    (18, dict(), 11.93),
    (18, dict(ratio=4), 45.86),
    (18, dict(ratio=0.5, cell_divisor=2), 7.43),
    (50, dict(), 28.05),
    (50, dict(ratio=4), 102.02),
])
def test_parameters_are_as_many_as_published(depth, options, expected):
    conv_cfg = AUTHORS if depth == 18 else AUTHORS_R50
    backbone = resnet(depth, dict(conv_cfg, **options))
    classifier = 1000 * ((512 if depth == 18 else 2048) + 1)
    count = sum(p.numel() for p in backbone.parameters()) + classifier
    assert f'{count / 1e6:.2f}' == f'{expected:.2f}'


def test_bad_options():
    for bad in (0, 1.5, -1, True, 'half'):
        with pytest.raises(ValueError, match='KernelWarehouse: ratio'):
            KernelWarehouse2d(4, 4, 3, ratio=bad)
    with pytest.raises(ValueError, match='cell_divisor=0'):
        KernelWarehouse2d(4, 4, 3, cell_divisor=0)
    with pytest.raises(ValueError, match='stage_level=-1'):
        KernelWarehouse2d(4, 4, 3, stage_level=-1)
    with pytest.raises(ValueError, match='earlier_pattern=.* regular expre'):
        KernelWarehouse2d(4, 4, 3, earlier_pattern='(')
    for everywhere in ('', 'x*', 'conv1|'):
        with pytest.raises(ValueError, match='that is not found in every na'):
            KernelWarehouse2d(4, 4, 3, earlier_pattern=everywhere)
    conv = KernelWarehouse2d(4, 4, 3, earlier_pattern='conv9')
    with pytest.raises(ValueError, match='earlier_pattern.*none of the 1'):
        link_kernels(nn.Sequential(nn.Sequential(conv)))
    assert not conv.dynamic and conv.weight.shape == (4, 4, 3, 3)


@pytest.mark.parametrize('progress', [0, 0.7, 1])
@pytest.mark.parametrize('ratio', [1, 3])
def test_plain_weights_start_exactly(ratio, progress):
    unit = make('KernelWarehouse', *SHAPES, ratio=ratio)
    # What is there before, were it not a number, leaves no trace.
    nn.init.constant_(unit[0][0].cells, float('nan'))
    set_progress(unit, 0.2)
    plain = plain_twin(unit)
    unit.load_state_dict(plain.state_dict())
    set_progress(unit, progress)
    x = torch.randn(3, 4, 7, 7).double()
    close(unit(x), plain(x), 1e-12 if progress == 0 else 1e-2)
    cells = unit[0][0].cells.detach()
    assert cells.isfinite().all()
    assert len(cells.unique(dim=0)) == len(cells) == ratio * sum(MIXTURES)


def test_fewer_cells_start_at_the_mean_of_their_parts():
    unit = make('KernelWarehouse', *SHAPES, ratio=0.3)
    plain = plain_twin(unit)
    unit.load_state_dict(plain.state_dict())
    owner = unit[0][0]
    parts = torch.cat(
        [conv.cut(twin.weight) for conv, twin in zip(unit[0], plain[0])])
    number = len(owner.cells)
    assert 3 * number < len(parts) < 4 * number
    nearest = torch.stack([parts[i::number].mean(0) for i in range(number)])
    close(owner.cells, nearest, 1e-12)
    # A second time as the first.
    unit.load_state_dict(plain.state_dict())
    close(owner.cells, nearest, 1e-12)


@pytest.mark.parametrize(
    'load', [nn.Module.load_state_dict,
             lambda m, s: load_state_dict(m, s, strict=True)],
    ids=['torch', 'mmengine'])  # yapf: disable
def test_a_whole_backbone_takes_plain_weights(load):
    plain = resnet(18, None).double()
    unit = resnet(18, AUTHORS).double()
    load(unit, plain.state_dict())
    x = torch.randn(1, 3, 64, 64).double()
    close(unit(x)[-1], plain(x)[-1], 1e-12)
    other = resnet(18, AUTHORS).double()
    load(other, unit.state_dict())
    assert torch.equal(other(x)[-1], unit(x)[-1])


def test_its_own_kernel_can_be_set():
    unit = make('KernelWarehouse', *SHAPES)
    second = unit[0][1]
    kernel = torch.randn(second.weight_shape).double()
    others = [conv.own_kernel() for conv in unit[0] if conv is not second]
    second.put_kernel(kernel)
    assert torch.equal(second.own_kernel(), kernel)
    for conv, before in zip([c for c in unit[0] if c is not second], others):
        assert torch.equal(conv.own_kernel(), before)
    with pytest.raises(AttributeError, match='owns no weight.*put_kernel'):
        second.weight
    with pytest.raises(RuntimeError, match='put_kernel'):
        second.weight = nn.Parameter(kernel)


@pytest.mark.parametrize('ratio', [1, 3])
def test_whoever_initialises_reaches_every_cell(ratio):

    class Unit(BaseModule):

        def __init__(self):
            super().__init__(
                init_cfg=dict(type='Normal', std=0.01, layer='Conv2d'))
            self.convs = nn.Sequential(*[
                KernelWarehouse2d(
                    **{
                        'in_channels': 8,
                        'out_channels': 8,
                        **shape
                    },
                    ratio=ratio,
                    **EVERYTHING) for shape in SHAPES
            ])

    unit = Unit()
    link_kernels(unit)
    attention = unit.convs[1].attention.fc1.weight.clone()
    unit.init_weights()
    cells = unit.convs[0].cells.detach()
    assert len(cells) == ratio * sum(MIXTURES)
    assert 0 < cells.std((1, 2)).min()
    assert cells.std((1, 2)).max() < 0.02
    assert cells.std() == pytest.approx(0.01, rel=0.1)
    assert torch.equal(unit.convs[1].attention.fc1.weight, attention)


def test_the_start_of_attentions():
    attention = CellAttention(64, 40, 40)
    assert not attention.fc2.bias.any()
    for layer in (attention.fc1, attention.fc2):
        expected = (2 / layer.out_features)**0.5
        assert layer.weight.std().item() == pytest.approx(expected, rel=0.1)
        # Normal: of a uniform start nothing is beyond sqrt(3) deviations.
        assert layer.weight.abs().max() > 2.5 * expected
