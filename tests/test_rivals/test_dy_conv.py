"""DyConv: its formula at each temperature, its start."""
import pytest
import torch

from mmkdna.rivals import DyConv2d
from tests.test_rivals.cases import compare_with, geometries, make
from tests.test_rivals.reference import dy_conv

PADDED = dict(kernel_size=3, padding=1)


@geometries
@pytest.mark.parametrize('number', [1, 3])
def test_the_formula(geometry, number):
    unit = make('DyConv', geometry)
    x = torch.randn(number, 8, 7, 7).double()
    compare_with(lambda u, x: dy_conv(u[0][0], x, 30), unit, x)


@pytest.mark.parametrize('progress, temperature', [(0, 12), (0.5, 6.5),
                                                   (1, 1)])
def test_the_temperature(progress, temperature):
    unit = make('DyConv', PADDED, temperature=12)
    unit[0][0].set_progress(progress)
    x = torch.randn(2, 8, 7, 7).double()
    compare_with(lambda u, x: dy_conv(u[0][0], x, temperature), unit, x)


@pytest.mark.parametrize('channels, options, hidden', [
    (12, {}, 3),
    (3, {}, 1),
    (12, dict(reduction=2), 6),
])
def test_hidden_channels(channels, options, hidden):
    conv, = make('DyConv', dict(PADDED, in_channels=channels), **options)[0]
    assert conv.fc1.weight.shape == (hidden, channels)
    assert conv.fc1.bias is None
    assert conv.fc2.weight.shape == (4, hidden)
    assert conv.fc2.bias.shape == (4, )


def test_biases_learn_apart():
    unit = make('DyConv', PADDED)
    conv, = unit[0]
    assert conv.bias.shape == (4, 8)
    assert isinstance(DyConv2d(8, 8, 3).bias, torch.nn.Parameter)
    unit(torch.randn(2, 8, 7, 7).double()).square().sum().backward()
    assert len(torch.unique(conv.bias.grad, dim=0)) == 4
