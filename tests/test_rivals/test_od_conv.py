"""ODConv: its formula, which attentions there are, its norm."""
import pytest
import torch

from tests.test_rivals.cases import compare_with, geometries, make
from tests.test_rivals.reference import od_conv


@geometries
@pytest.mark.parametrize('num_experts', [1, 4])
@pytest.mark.parametrize('number', [1, 3])
def test_the_formula(geometry, num_experts, number):
    unit = make('ODConv', geometry, num_experts=num_experts)
    x = torch.randn(number, 8, 7, 7).double()
    # The norm has no statistics of one image.
    running = number == 1
    compare_with(lambda u, x: od_conv(u[0][0], x, 30, running), unit, x)


@pytest.mark.parametrize('progress, temperature', [(0, 12), (0.5, 6.5),
                                                   (1, 1)])
def test_the_temperature(progress, temperature):
    geometry = dict(kernel_size=3, padding=1)
    unit = make('ODConv', geometry, num_experts=4, temperature=12)
    unit[0][0].set_progress(progress)
    x = torch.randn(3, 8, 7, 7).double()
    compare_with(lambda u, x: od_conv(u[0][0], x, temperature), unit, x)


def test_eval_mode():
    unit = make('ODConv', dict(kernel_size=3), num_experts=4).eval()
    x = torch.randn(3, 8, 7, 7).double()
    compare_with(lambda u, x: od_conv(u[0][0], x, 30, True), unit, x)


@pytest.mark.parametrize('geometry, num_experts, names', [
    (dict(kernel_size=3), 4, 'channel filter spatial kernel'),
    (dict(kernel_size=3), 1, 'channel filter spatial'),
    (dict(kernel_size=1), 4, 'channel filter kernel'),
    (dict(kernel_size=1), 1, 'channel filter'),
    (dict(kernel_size=3, groups=8), 4, 'channel spatial kernel'),
    (dict(kernel_size=3, groups=2), 1, 'channel filter spatial'),
    (dict(kernel_size=3, groups=8,
          out_channels=16), 1, 'channel filter spatial'),
])
def test_which_attentions_there_are(geometry, num_experts, names):
    conv, = make('ODConv', geometry, num_experts=num_experts)[0]
    assert ' '.join(conv.attention.heads) == names


@pytest.mark.parametrize('channels, options, hidden', [
    (8, {}, 16),
    (255, {}, 16),
    (320, {}, 20),
    (64, dict(reduction=2), 32),
])
def test_hidden_channels(channels, options, hidden):
    conv, = make('ODConv', dict(kernel_size=1, in_channels=channels),
                 **options)[0]
    assert conv.attention.fc.weight.shape == (hidden, channels)


@pytest.mark.parametrize('number, moves', [(0, False), (1, False), (2, True)])
def test_what_too_few_images_leave_of_the_norm(number, moves):
    unit = make('ODConv', dict(kernel_size=3))
    norm = unit[0][0].attention.norm
    before = norm.running_mean.clone()
    unit(torch.randn(number, 8, 7, 7).double())
    assert torch.equal(norm.running_mean, before) != moves
