"""Weights that share, taken by children that are built in the deploy form."""
from __future__ import annotations
from functools import partial
from typing import Any, Sequence

import torch
from torch import Tensor, nn

from .conv import KernelDNAConv2d
from .linking import Link
from .sharing import first_names


def accept_shared_weights(unit: nn.Module, links: Sequence[Link]) -> None:
    """Have children that are built with ``deploy=True`` take shared weights.

    From then on, whatever loads a state dict into ``unit`` or into a model
    around it may bring the weights of the model as it was trained. The
    kernels of children are derived and the norms of gates folded while they
    are loaded, as :func:`mmkdna.switch_to_deploy` does. So a file with the
    weights of a deployed model can be as small as that of the trained one.
    The weights of the deploy form load as they are.

    Args:
        unit (nn.Module): A backbone, neck or head.
        links (Sequence[Link]): Those of its children that are built in the
            deploy form, and their parents.
    """
    unit._register_load_state_dict_pre_hook(
        partial(_fold_before_loading, links=links), with_module=True)


def _fold_before_loading(unit: nn.Module, state_dict: dict[str, Tensor],
                         prefix: str, *_: Any, links: Sequence[Link]) -> None:
    """Fold a unit's weights in a state dict right before torch loads it."""
    modules = dict(unit.named_modules())
    further = first_names(unit)
    for child, parent in links:
        conv = modules.get(child)
        if not isinstance(conv, KernelDNAConv2d):
            continue
        for name in (child, *(n for n in further if further[n] == child)):
            _fold(conv, state_dict, f'{prefix}{name}.',
                  f'{prefix}{parent}.weight')


@torch.no_grad()
def _fold(conv: KernelDNAConv2d, state_dict: dict[str, Tensor], prefix: str,
          parents_key: str) -> None:
    """Replace a child's weights by those of its deploy form, if all are there.

    Args:
        conv (KernelDNAConv2d): The child, deployed.
        state_dict (dict[str, Tensor]): Changed in place.
        prefix (str): What the keys of the child start with.
        parents_key (str): The key of its parent's kernel.
    """
    key = f'{prefix}weight'
    kernel = state_dict.get(parents_key)
    if kernel is None or kernel.shape != conv.weight_shape:
        return
    # With share=False a child is its own parent.
    if key in state_dict and key != parents_key:
        return
    adapter = conv.make_adapter()
    given = {}
    for name, value in adapter.state_dict().items():
        found = state_dict.get(f'{prefix}adapter.{name}')
        if found is None or found.shape != value.shape:
            return
        given[name] = found
    adapter.load_state_dict(given)
    for name in given:
        del state_dict[f'{prefix}adapter.{name}']
    state_dict[key] = adapter.derive(kernel.to(conv.weight))
    if adapter.gate is not None:
        adapter.gate.fold_norm()
        for name, value in adapter.gate.state_dict().items():
            state_dict[f'{prefix}adapter.gate.{name}'] = value
