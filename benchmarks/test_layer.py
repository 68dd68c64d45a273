"""How long one convolution takes, as it is in layer3 of a ResNet-50."""
from contextlib import nullcontext

import pytest
import torch
from torch import nn

from mmkdna import kept_kernels, switch_to_deploy
from mmkdna.analysis.conv_types import replace_convs
from mmkdna.rivals import CONV_TYPES
from tests.utils import make_kin

CHANNELS, SIZE = 256, 14
FORMS = ('trained', 'kept', 'deployed')


def make_layer(kind):
    """A convolution of one type, or a child in one of its forms."""
    kin = make_kin(2, CHANNELS).eval()
    if kind == 'Conv2d' or kind in CONV_TYPES:
        replace_convs(kin, dict(type=kind))
    elif kind == 'deployed':
        switch_to_deploy(kin)
    # The first of two is the child.
    return kin[0][0].eval()


@pytest.mark.parametrize('kind', ['Conv2d', *FORMS, *CONV_TYPES])
@pytest.mark.parametrize('batch', [1, 8])
def test_forward(benchmark, kind, batch):
    benchmark.group = f'layer forward, batch {batch}'
    layer = make_layer(kind)
    x = torch.randn(batch, CHANNELS, SIZE, SIZE)
    keeping = kept_kernels(layer) if kind == 'kept' else nullcontext()
    with torch.no_grad(), keeping:
        benchmark(layer, x)


@pytest.mark.parametrize('kind', ['Conv2d', 'trained', *CONV_TYPES])
@pytest.mark.parametrize('batch', [1, 8])
def test_step(benchmark, kind, batch):
    benchmark.group = f'layer forward and backward, batch {batch}'
    layer = make_layer(kind).train()
    x = torch.randn(batch, CHANNELS, SIZE, SIZE, requires_grad=True)
    benchmark(lambda: layer(x).sum().backward())


@pytest.mark.benchmark(group='derivation')
def test_copy_of_a_kernel(benchmark):
    """To compare with: what a kernel's memory alone takes."""
    weight = nn.Conv2d(CHANNELS, CHANNELS, 3).weight.detach()
    benchmark(torch.clone, weight)


@pytest.mark.benchmark(group='derivation')
def test_derive(benchmark):
    child = make_layer('trained')
    with torch.no_grad():
        benchmark(child.kernel)
