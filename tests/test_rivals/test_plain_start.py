"""Plain pretrained weights: the same network at the start, then its own."""
import pytest
import torch
from torch import nn

from tests.test_rivals.cases import close, geometries, make

KINDS = {
    'CondConv': {},
    'DyConv': {},
    'ODConv': dict(num_experts=4),
    'ODConv of one kernel': {},
    'SEConv': dict(reduction=2),
    'KernelWarehouse': {},
}
kinds = pytest.mark.parametrize('kind', KINDS)


def pair(kind, geometry):
    """A plain convolution in float64, and one that has taken its weights."""
    plain = nn.Conv2d(**{'in_channels': 8, 'out_channels': 8, **geometry})
    plain = plain.double()
    unit = make(kind.split()[0], geometry, **KINDS[kind])
    unit[0][0].load_state_dict(plain.state_dict(), strict=True)
    return plain, unit[0][0]


@kinds
@geometries
@pytest.mark.parametrize('number', [0, 1, 3])
def test_the_start_is_the_plain_convolution(kind, geometry, number):
    plain, conv = pair(kind, geometry)
    x = torch.randn(number, 8, 7, 7).double()
    for mode in (True, False):
        out = conv.train(mode)(x)
        expected = plain(x)
        assert out.shape == expected.shape
        if number:
            close(out, expected, 1e-12)


@kinds
@geometries
def test_no_image_leaves_gradients_of_zero(kind, geometry):
    _, conv = pair(kind, geometry)
    conv(torch.randn(0, 8, 7, 7).double()).sum().backward()
    for name, parameter in conv.named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name


@kinds
def test_every_parameter_moves_and_experts_part(kind):
    _, conv = pair(kind, dict(kernel_size=3, padding=1))
    if kind == 'KernelWarehouse':
        # At its start no attention decides.
        conv.set_progress(0.5)
    before = {n: p.detach().clone() for n, p in conv.named_parameters()}
    optimizer = torch.optim.SGD(conv.parameters(), lr=0.1)
    torch.manual_seed(0)
    x = torch.randn(4, 8, 7, 7).double()
    x = x * torch.tensor([0.5, 1, 2, 3])[:, None, None, None]
    target = torch.randn(4, 8, 7, 7).double()
    for _ in range(2):
        optimizer.zero_grad()
        (conv(x) - target).square().mean().backward()
        optimizer.step()
    moved = {n: p.detach() - before[n] for n, p in conv.named_parameters()}
    for name, change in moved.items():
        assert change.any(), name
    if 'experts' in moved:
        first, *others = conv.experts.detach()
        for other in others:
            difference = float((other - first).norm())
            assert difference > 1e-3 * float(moved['experts'][0].norm())


def test_weights_of_its_own_stay():
    for kind, options in KINDS.items():
        unit = make(kind.split()[0], dict(kernel_size=3), **options)
        other = make(kind.split()[0], dict(kernel_size=3), **options)
        other.load_state_dict(unit.state_dict())
        for name, value in other.state_dict().items():
            assert torch.equal(value, unit.state_dict()[name]), name
