"""A copy of a plain network that shares."""
from __future__ import annotations
from copy import deepcopy
from typing import Mapping, Sequence

import torch
from torch import nn

from ..conv import KernelDNAConv2d
from ..linking import Link, make_links
from ..pretrained.plain import accept_plain_weights
from ..sharing import named_convs

# What stands for a parent whose kernel is noise.
NOISE = 'noise'


def sharing_copy(plain: nn.Module, links: Mapping[str, Sequence[Link]],
                 seed: int) -> nn.Module:
    """Copy a network and link it, as if it loaded its plain weights then.

    Args:
        plain (nn.Module): A model of unlinked KernelDNA convolutions.
        links (dict[str, list[Link]]): By name of the unit. A parent of the
            name 'noise' is Gaussian noise of the norm of the child's kernel.
        seed (int): Of noise and of what is random in new adapters.

    Returns:
        nn.Module: The copy, in eval mode.
    """
    model = deepcopy(plain)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for name, pairs in links.items():
            unit = model.get_submodule(name)
            for link in pairs:
                if link.parent == NOISE:
                    unit.add_module(
                        NOISE, _noise_like(unit.get_submodule(link.child)))
            weights = unit.state_dict()
            make_links(named_convs(unit), list(pairs))
            accept_plain_weights(unit)
            unit.load_state_dict(weights)
    return model.eval()


@torch.no_grad()
def _noise_like(conv: nn.Module) -> KernelDNAConv2d:
    """A convolution with a kernel of noise, which nobody calls."""
    assert isinstance(conv, KernelDNAConv2d)
    noise = KernelDNAConv2d(
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        groups=conv.groups,
        bias=False,
        **vars(conv.options))
    noise.weight.normal_()
    noise.weight.mul_(conv.weight.norm() / noise.weight.norm())
    return noise.to(conv.weight)
