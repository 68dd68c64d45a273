"""CondConv: its formula, its routing by block, its start."""
import pytest
import torch
from mmengine.registry import MODELS
from torch import nn

from mmkdna import link_kernels
from mmkdna.rivals import CondConv2d
from tests.test_rivals.cases import compare_with, geometries, make
from tests.test_rivals.reference import cond_conv


@geometries
@pytest.mark.parametrize('number', [1, 3])
def test_the_formula(geometry, number):
    unit = make('CondConv', geometry, num_experts=4)
    x = torch.randn(number, 8, 7, 7).double()
    compare_with(lambda u, x: cond_conv(u[0][0], x), unit, x)


def test_a_block_routes_once():
    geometry = dict(kernel_size=3, padding=1)
    unit = make('CondConv', geometry, geometry, num_experts=4, routing='block')
    first, second = unit[0]
    assert second.fc is None and first.fc is not None
    x = torch.randn(3, 8, 7, 7).double()

    def reference(unit, x):
        hidden = cond_conv(unit[0][0], x)
        return cond_conv(unit[0][1], hidden, (unit[0][0], x))

    compare_with(reference, unit, x)
    two_blocks = nn.ModuleList([
        nn.Sequential(*[CondConv2d(8, 8, 3, routing='block')] * 1)
        for _ in range(2)
    ])
    link_kernels(two_blocks)
    assert all(block[0].fc is not None for block in two_blocks)


@pytest.mark.parametrize('host', ['mmdet', 'mmpretrain'])
def test_a_block_of_conv_modules_routes_once(host):
    conv_cfg = dict(
        type='CondConv', routing='block', kernel_sizes=(1, ), num_experts=2)
    backbone = MODELS.build(
        dict(type=f'{host}.MobileNetV2', widen_factor=0.25, conv_cfg=conv_cfg))
    routers = {
        n: c.fc is not None
        for n, c in backbone.named_modules()
        if isinstance(c, CondConv2d) and c.dynamic and 'layer6.1' in n
    }
    assert list(routers.values()) == [True, False], routers
