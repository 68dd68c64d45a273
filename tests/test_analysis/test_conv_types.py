"""Another conv type stands on the very layers that share."""
from copy import deepcopy

import pytest
import torch
from mmcv.cnn.bricks.conv_ws import ConvWS2d
from mmengine.registry import MODELS
from torch import nn

from mmkdna import KernelDNAConv2d, link_kernels, sharing_table
from mmkdna.analysis.conv_types import replace_convs
from mmkdna.rivals import CONV_TYPES, KernelWarehouse2d
from tests.test_deploy import MODEL_CFGS
from tests.utils import kernel_dna, make_kin, make_module

CONVNEXT = dict(
    type='mmpretrain.KernelDNAConvNeXt',
    arch=dict(depths=[1, 1, 5, 3], channels=[8, 16, 24, 32]))
NETWORKS = dict(MODEL_CFGS, convnext=CONVNEXT)


def build(name):
    model = MODELS.build(deepcopy(NETWORKS[name]))
    model.eval()  # which of a backbone of mmpretrain returns None
    return model


def sharing(model):
    return {row.name for row in sharing_table(model) if row.role != 'plain'}


def dynamic(model):
    return {
        name
        for name, conv in model.named_modules()
        if getattr(conv, 'dynamic', False)
    }


@pytest.mark.parametrize('name', NETWORKS)
@pytest.mark.parametrize('kind', CONV_TYPES)
def test_a_rival_stands_on_the_layers_that_share(name, kind):
    model = build(name)
    expected, others = sharing(model), set(kernel_dna(model))
    others -= expected
    assert expected
    assert replace_convs(model, dict(type=kind)) is model
    assert dynamic(model) == expected
    assert not kernel_dna(model)
    for place in others:
        assert type(model.get_submodule(place)) is nn.Conv2d
    # In one mode, as a convolution that takes its place is in it.
    assert not any(module.training for module in model.modules())
    with torch.no_grad():
        assert model(torch.randn(2, 3, 64, 64)) is not None


def test_options_are_those_of_the_convolution_or_given():
    options = dict(stage_level=2, min_channels=8)
    model = make_module(
        {
            f'stages.{stage}.conv{i}': (8, 8, 3)
            for stage in range(2)
            for i in range(2)
        }, **options)
    link_kernels(model)
    other = replace_convs(deepcopy(model), dict(type='KernelWarehouse'))
    convs = [m for m in other.modules() if isinstance(m, KernelWarehouse2d)]
    assert {conv.options.stage_level for conv in convs} == {2}
    assert {conv.options.min_channels for conv in convs} == {8}
    # So each stage has a warehouse.
    assert len({conv.owner for conv in convs}) == 2
    other = replace_convs(
        deepcopy(model), dict(type='ODConv', num_experts=4, temperature=1))
    assert len(other.get_submodule('stages.0.conv0').experts) == 4


def test_what_a_convolution_is_besides_its_type_stays():
    kin = make_kin(3, bias=False, padding_mode='reflect')
    replace_convs(kin, dict(type='DyConv'))
    for conv in kin[0]:
        assert conv.bias is None
        assert conv.padding_mode == 'reflect' and conv.padding == (1, 1)


def test_kernel_dna_with_other_options():
    kin = make_kin(3, children_per_parent=None)
    before = [conv.role for conv in kin[0]]
    replace_convs(kin, dict(type='KernelDNA', modulation=('filter', )))
    assert [conv.role for conv in kin[0]] == before
    for child in list(kin[0])[:2]:
        assert child.adapter.gate is None and child.adapter.spatial is None
        assert child.adapter.filter is not None


def test_any_conv_type():
    kin = make_kin(3)
    replace_convs(kin, dict(type='ConvWS', eps=1e-4))
    assert [type(conv) for conv in kin[0]] == [ConvWS2d] * 3
    assert {conv.eps for conv in kin[0]} == {1e-4}


def test_one_convolution_in_two_places():
    kin = make_kin(2)
    kin.again = nn.Sequential(kin[0][0])
    replace_convs(kin, dict(type='CondConv'))
    assert kin.again[0] is kin[0][0]
    assert not isinstance(kin.again[0], KernelDNAConv2d)


@pytest.mark.parametrize('conv_cfg, parts', [
    (dict(num_experts=4), ['{\'num_experts\': 4}', 'a type', 'ODConv']),
    (dict(type='OddConv'), ['OddConv', 'registered']),
    (dict(type='ODConv', grouped=True, name_pattern='a'),
     ['grouped, name_pattern', 'other layers', 'config of its own']),
])
def test_a_conv_cfg_that_cannot_be(conv_cfg, parts):
    kin = make_kin(2)
    with pytest.raises(ValueError) as error:
        replace_convs(kin, conv_cfg)
    for part in parts:
        assert part in str(error.value)
    assert len(kernel_dna(kin)) == 2


def test_nothing_changes_where_one_layer_cannot_be_replaced():
    kin = make_kin(2)
    with pytest.raises(TypeError, match='ODConv: widths is given'):
        replace_convs(kin, dict(type='ODConv', widths=3))
    assert len(kernel_dna(kin)) == 2


def test_where_nothing_shares():
    with pytest.raises(ValueError, match='in this Sequential none does'):
        replace_convs(nn.Sequential(nn.Conv2d(3, 8, 3)), dict(type='ODConv'))
