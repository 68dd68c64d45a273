"""A child's pretrained kernel turned into an adapter to its parent's."""
from __future__ import annotations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from ..adapter import NEUTRAL, Adapter
from ..conv import KernelDNAConv2d
from .layouts import Weights

# How often the norms of filters and those of kernel positions are matched in
# turns: matching the ones changes the others.
ROUNDS = 10
# Below this part of the mean norm a parent's filter or kernel position is
# dead: a factor would make noise of it, and of each step of a training too.
DEAD = 1e-3


class Fit(NamedTuple):
    """How well a child's kernel comes back from its parent's.

    Attributes:
        child (str): Name of the child.
        parent (str): Name of its parent.
        error (float): Norm of the difference between the derived kernel and
            the pretrained one, over that of the pretrained one.
        cosine (float): Mean over filters of the cosine between the two.
    """
    child: str
    parent: str
    error: float
    cosine: float


def fit_adapter(weights: Weights, conv: KernelDNAConv2d, child: str,
                parent: str) -> Fit:
    """Replace a child's kernel by an adapter to its parent's.

    Args:
        weights (dict[str, Tensor]): Plain weights by key; changed in place.
        conv (KernelDNAConv2d): The child.
        child (str): Its name.
        parent (str): Its parent's; with ``share=False`` its own.

    Returns:
        Fit: How well the child's kernel comes back.
    """
    adapter, key = _adapter_of(conv), f'{child}.weight'
    own = weights[key]
    if not own.is_floating_point():
        # Factors of 2 could run over.
        own = own.double()
    kernel = source = own.double()
    filters = spatial = torch.ones_like(kernel[:1, :1, :1, :1])
    if child != parent:
        del weights[key]
        source = weights[f'{parent}.weight'].double()
        # In turns; the filters last, so that their norms are kept exactly.
        for _ in range(ROUNDS):
            if adapter.spatial is not None:
                spatial = _norm_ratio(kernel, source * filters, (0, 1))
            if adapter.filter is not None:
                filters = _norm_ratio(kernel, source * spatial, (1, 2, 3))
    derived = source * spatial * filters

    gain = 1 if adapter.gate is None else NEUTRAL
    if conv.keeps_own_kernel:
        weights[f'{child}.own_weight'] = own * gain
        weights[f'{child}.own_share'] = own.new_ones(())
    if adapter.filter is not None:
        filters = filters * gain
    elif adapter.spatial is not None:
        spatial = spatial * gain
    elif child == parent:
        weights[key] = own * gain
    else:
        # Nothing makes up for the gate.
        derived = derived / gain
    _fill_adapter(weights, f'{child}.adapter.', adapter, filters, spatial)
    # A kernel of zeros comes back exactly.
    error = (derived - kernel).norm() / kernel.norm().clamp(min=1e-300)
    return Fit(
        child, parent, float(error),
        float(
            F.cosine_similarity(derived.flatten(1), kernel.flatten(1)).mean()))


def _adapter_of(conv: KernelDNAConv2d) -> Adapter:
    """The adapter of a child, or a new one where it has no values yet."""
    adapter = conv.adapter
    assert adapter is not None
    if not any(value.is_meta for value in adapter.state_dict().values()):
        return adapter
    new = Adapter(conv.weight_shape, conv.in_channels, conv.options)
    if conv.parent is None and new.gate is not None:
        # After deploying.
        new.filter = new.spatial = None
        new.gate.fold_norm()
    return new


def _norm_ratio(kernel: Tensor, source: Tensor, dims: tuple[int,
                                                            ...]) -> Tensor:
    """Divide the norm of one kernel by that of the other.

    Args:
        kernel (Tensor): Shape (C_out, C_in / groups, kH, kW).
        source (Tensor): The other, of the same shape.
        dims (tuple[int]): Over which the norms are taken.

    Returns:
        Tensor: 1 where the norm of the other is next to nothing beside the
        mean of its norms; of size 1 in ``dims``.
    """
    norms, sources = (
        weight.pow(2).sum(dims, keepdim=True).sqrt()
        for weight in (kernel, source))
    alive = sources > DEAD * sources.mean()
    return torch.where(alive, norms / sources, torch.ones_like(norms))


def _fill_adapter(weights: Weights, prefix: str, adapter: Adapter,
                  filters: Tensor, spatial: Tensor) -> None:
    """Write an adapter's weights with given factors and a neutral gate.

    Args:
        weights (dict[str, Tensor]): Weights by key; changed in place.
        prefix (str): What the adapter's keys start with.
        adapter (Adapter): Has what is left as it is.
        filters (Tensor): Factor of each filter.
        spatial (Tensor): Factor of each kernel position.
    """
    values = dict(adapter.state_dict())
    if adapter.filter is not None:
        values['filter'] = (filters - 1).to(adapter.filter).expand_as(
            adapter.filter).contiguous()
    if adapter.spatial is not None:
        values['spatial'] = (spatial - 1).to(adapter.spatial).expand_as(
            adapter.spatial).contiguous()
    if adapter.gate is not None:
        for name in ('gate.fc2.weight', 'gate.fc2.bias'):
            values[name] = torch.zeros_like(values[name])
    for name, value in values.items():
        weights[prefix + name] = value
