"""How alike kernels are that could be one."""
from statistics import mean

import pytest
import torch
from mmpretrain.models import ResNet
from torch import nn

from mmkdna.similarity import compare_kernels
from tests.utils import make_kin


def pair_of(module, conv, other):
    pairs = {(p.conv, p.other): p for p in compare_kernels(module)}
    return pairs[conv, other]


def resnet(depth=50):
    torch.manual_seed(0)
    return nn.Sequential(ResNet(depth, base_channels=8, stem_channels=8))


def block_of(conv):
    return conv.rpartition('.')[0]


@pytest.mark.parametrize('depth, within, number', [(50, False, 144),
                                                   (18, False, 20),
                                                   (18, True, 10)])
def test_kernels_of_noise_are_as_far_as_noise(depth, within, number):
    """Within one block, where the order of channels stays, and across."""
    pairs = [
        pair for pair in compare_kernels(resnet(depth))
        if (block_of(pair.conv) == block_of(pair.other)) == within
    ]
    assert len(pairs) == number
    assert mean(pair.distance - pair.noise for pair in pairs) == pytest.approx(
        0, abs=0.003)
    assert mean(pair.cosine for pair in pairs) == pytest.approx(0, abs=0.02)


def test_only_kernels_of_one_shape_and_stage_are_compared():
    module = resnet()
    modules = dict(module.named_modules())
    for pair in compare_kernels(module):
        assert pair.conv.split('.')[:2] == pair.other.split('.')[:2]
        one, other = modules[pair.conv], modules[pair.other]
        assert one.weight.shape == other.weight.shape


@torch.no_grad()
def test_a_kernel_in_another_order_of_channels_is_the_same():
    module = resnet()
    first, second = module[0].layer3[1], module[0].layer3[2]
    order, inner = torch.randperm(32), torch.randperm(32)
    # Factors of filters, as an adapter has them.
    factors = torch.rand(32, 1, 1, 1) + 0.5
    second.conv1.weight.copy_(first.conv1.weight[inner])
    second.conv2.weight.copy_(factors * first.conv2.weight[order][:, inner])
    pair = pair_of(module, '0.layer3.2.conv2', '0.layer3.1.conv2')
    assert pair.distance < 1e-6
    assert abs(pair.cosine) < 0.3
    assert pair.noise > 0.9


@torch.no_grad()
def test_the_model_is_left_as_it_is():
    module = resnet()
    before = {k: v.clone() for k, v in module.state_dict().items()}
    compare_kernels(module)
    for key, value in module.state_dict().items():
        assert torch.equal(value, before[key])


@torch.no_grad()
def test_channels_keep_their_order_where_others_see_it():
    """Of a module that is no block, and within one block."""
    torch.manual_seed(0)
    stage = nn.Sequential(nn.Conv2d(6, 6, 3), nn.Conv2d(6, 6, 3))
    module = nn.Sequential(nn.ModuleDict(dict(stage=stage)))
    stage[0].weight.copy_(stage[1].weight.roll(1, 0))
    pair = pair_of(module, '0.stage.0', '0.stage.1')
    assert pair.distance > 0.8
    block = nn.Sequential(ResNet(18, base_channels=8, stem_channels=8))
    conv = block[0].layer1[0]
    conv.conv1.weight.copy_(conv.conv2.weight.roll(1, 0))
    pair = pair_of(block, '0.layer1.0.conv1', '0.layer1.0.conv2')
    assert pair.distance > 0.8


def test_children_are_left_out():
    module = nn.Sequential(make_kin(4))
    names = {pair.conv for pair in compare_kernels(module)}
    assert names == {'0.0.1', '0.0.3'}
