"""Residual blocks that a network has and the plain weights lack.

The paper's ResNets have more blocks than the networks whose weights there
are: ResNet-18 a third one in two stages, ResNet-50 a seventh one in layer3.
Such a block starts as the identity, so that the network starts as the plain
one.
"""
from __future__ import annotations
from collections import defaultdict

import torch
from torch import Tensor, nn

from ..hosts import Layer, shortcut
from .layouts import Blocks, Modules, Weights, has_tensor, plain_shapes


def find_missing_blocks(weights: Weights, modules: Modules,
                        blocks: Blocks) -> list[str]:
    """Find the blocks that the weights of a whole stage lack at its end.

    The weights are those of a whole stage if they have all of the first
    blocks, more than there are blocks behind these, and nothing of those
    behind. A few tensors of a stage say nothing about the rest of it.

    Args:
        weights (dict[str, Tensor]): Plain weights by key.
        modules (dict[str, nn.Module]): Those of the unit, by name.
        blocks (dict[str, list[Layer]]): Main path of each residual block, by
            the name of the block.

    Returns:
        list[str]: Names of the missing blocks.
    """
    stages = defaultdict(list)
    for block in blocks:
        stage = block.rpartition('.')[0]
        # Blocks that lie in the unit itself are not of one stage.
        if stage:
            stages[stage].append(block)
    missing = []
    for in_order in stages.values():
        given = [block for block in in_order if _mentions(weights, block)]
        behind = in_order[len(given):]
        if (0 < len(behind) < len(given) and given == in_order[:len(given)]
                and all(
                    _is_complete(weights, modules, block, blocks[block])
                    for block in given)):
            missing += behind
    return missing


def _mentions(weights: Weights, block: str) -> bool:
    """Tell whether the weights have anything of a block."""
    return any(key.startswith(f'{block}.') for key in weights)


def _is_complete(weights: Weights, modules: Modules, block: str,
                 layers: list[Layer]) -> bool:
    """Tell whether the weights have all kernels and norms of a block."""
    names = {name for layer in layers for name in layer if name is not None}
    added = shortcut(modules[block])
    on_shortcut = set() if added is None else set(added.modules())
    parts = {
        name: module
        for name, module in modules.items()
        if name in names or module in on_shortcut
    }
    own = [
        f'{name}.{key}' for name, module in parts.items()
        for key, _ in module.named_parameters(recurse=False)
    ]
    return all(key in weights for key in own) and all(
        has_tensor(weights, key, shape)
        for key, shape in plain_shapes(parts).items())


def start_as_identity(weights: Weights, modules: Modules, blocks: Blocks,
                      missing: list[str]) -> list[str]:
    """Give missing blocks a last norm of zeros, where that is the identity.

    It is not where the shortcut is anything but the input itself, nor can it
    be done where the last norm has no factor.

    Args:
        weights (dict[str, Tensor]): Plain weights by key; changed in place.
        modules (dict[str, nn.Module]): Those of the unit, by name.
        blocks (dict[str, list[Layer]]): Main path of each residual block.
        missing (list[str]): From :func:`find_missing_blocks`.

    Returns:
        list[str]: Names of the blocks that start as the identity.
    """
    started = []
    for block in missing:
        factor = _last_factor(modules, blocks[block])
        if (isinstance(shortcut(modules[block]), nn.Identity)
                and factor is not None):
            norm = blocks[block][-1].norm
            weights[f'{norm}.weight'] = torch.zeros_like(factor)
            started.append(block)
    return started


def _last_factor(modules: Modules, layers: list[Layer]) -> Tensor | None:
    """Find the factor of a block's last norm, if it has one."""
    norm = layers[-1].norm
    return None if norm is None else getattr(modules.get(norm), 'weight', None)


def find_stuck_blocks(modules: Modules, blocks: Blocks,
                      started: list[str]) -> list[str]:
    """Find the blocks that are trained but cannot leave the identity.

    Args:
        modules (dict[str, nn.Module]): Those of the unit, by name.
        blocks (dict[str, list[Layer]]): Main path of each residual block.
        started (list[str]): Names of the blocks that start as the identity.

    Returns:
        list[str]: Names of those whose last norm is frozen, while something
        else in the block is not.
    """
    stuck = []
    for block in started:
        factor = _last_factor(modules, blocks[block])
        if factor is not None and not factor.requires_grad and any(
                parameter.requires_grad
                for parameter in modules[block].parameters()):
            stuck.append(block)
    return stuck
