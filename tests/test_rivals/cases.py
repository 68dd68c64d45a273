"""What every rival is tested with."""
import copy

import pytest
import torch
from torch import nn

from mmkdna import link_kernels
from mmkdna.rivals import CONV_TYPES
from tests.utils import randomize

GEOMETRIES = [
    dict(kernel_size=3, padding=1),
    dict(kernel_size=1, bias=False),
    dict(kernel_size=3, stride=2, padding=1, bias=False),
    dict(kernel_size=3, dilation=2, padding=2),
    dict(kernel_size=(1, 3), padding='same'),
    dict(kernel_size=3, groups=2, padding=1),
    dict(kernel_size=3, groups=8, padding=1, bias=False),
    dict(kernel_size=3, padding=1, padding_mode='reflect'),
    dict(kernel_size=3, padding=1, padding_mode='circular', groups=2),
]
EVERYTHING = dict(kernel_sizes=(1, 3, (1, 3)), grouped=True, shortcuts=True)


def make(kind, *convs, **options):
    """A unit of one stage, in float64, with convolutions of one conv type.

    Args:
        kind (str): Name of the conv type.
        *convs (dict): Arguments of each; 8 channels unless they say so.
        **options: Of all of them, beside taking all in.
    """
    modules = [
        CONV_TYPES[kind](**{
            'in_channels': 8,
            'out_channels': 8,
            **conv,
            **EVERYTHING,
            **options
        }) for conv in convs
    ]
    unit = nn.Sequential(nn.Sequential(*modules))
    link_kernels(unit)
    return randomize(unit.double())


def compare_with(reference, unit, x, tolerance=1e-10):
    """Outputs and all gradients of a unit against its reference's.

    Args:
        reference (callable): From a unit and an input to an output.
        unit (nn.Module): In float64.
        x (Tensor): The input.
        tolerance (float): Relative to the largest value. Defaults to 1e-10.
    """
    twin = copy.deepcopy(unit)
    ours, theirs = (x.clone().requires_grad_() for _ in range(2))
    out, expected = unit(ours), reference(twin, theirs)
    close(out, expected, tolerance)
    weights = torch.randn_like(out)
    (out * weights).sum().backward()
    (expected * weights).sum().backward()
    close(ours.grad, theirs.grad, tolerance)
    for (name, mine), other in zip(unit.named_parameters(), twin.parameters()):
        assert (mine.grad is None) == (other.grad is None), name
        if mine.grad is not None:
            close(mine.grad, other.grad, tolerance)


def close(value, reference, tolerance):
    scale = max(float(reference.detach().abs().max()), 1e-3)
    assert value.shape == reference.shape
    assert float((value - reference).abs().max()) <= tolerance * scale


geometries = pytest.mark.parametrize('geometry', GEOMETRIES)
