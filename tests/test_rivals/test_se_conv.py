"""SEConv: its formula, and a norm folded into its kernel."""
import copy

import pytest
import torch
from mmengine.model.efficient_conv_bn_eval import \
    turn_on_efficient_conv_bn_eval
from torch import nn

from tests.test_rivals.cases import close, compare_with, geometries, make
from tests.test_rivals.reference import se_conv
from tests.utils import randomize


@geometries
@pytest.mark.parametrize('number', [1, 3])
def test_the_formula(geometry, number):
    unit = make('SEConv', geometry)
    x = torch.randn(number, 8, 7, 7).double()
    compare_with(lambda u, x: se_conv(u[0][0], x), unit, x)


@pytest.mark.parametrize('channels, options, hidden', [
    (48, {}, 3),
    (8, {}, 1),
    (12, dict(reduction=2), 6),
])
def test_hidden_channels(channels, options, hidden):
    conv, = make('SEConv', dict(kernel_size=3, in_channels=channels),
                 **options)[0]
    assert conv.fc1.weight.shape == (hidden, channels)
    assert conv.fc2.weight.shape == (channels, hidden)


def test_efficient_conv_bn_eval():
    unit = make('SEConv', dict(kernel_size=3))
    unit.append(randomize(nn.BatchNorm2d(8).double()))
    model = nn.Module()
    model.unit = nn.Sequential(unit[0][0], unit[1]).eval()
    x = torch.randn(2, 8, 7, 7).double()
    expected = copy.deepcopy(model.unit)(x)
    turn_on_efficient_conv_bn_eval(model, 'unit')
    close(model.unit(x), expected, 1e-10)
