"""Ordinary pretrained weights, taken by a backbone, neck or head."""
from __future__ import annotations
from typing import Any

import torch
from mmengine.logging import print_log
from torch import nn

from ..conv import KernelDNAConv2d
from ..hosts import block_layers, rename_layers
from ..sharing import first_names, named_convs
from .adapters import fit_adapter
from .alignment import align_blocks
from .layouts import (COUNTER, Modules, Weights, has_tensor,
                      make_kernels_of_matrices, merge_names, rename_mobilenet,
                      spread_names, state_shapes)
from .missing_blocks import (find_missing_blocks, find_stuck_blocks,
                             start_as_identity)
from .report import PlainReport


def accept_plain_weights(unit: nn.Module) -> None:
    """Have a unit take the weights of the plain network it is made from.

    From then on, whatever loads a state dict into ``unit`` or into a model
    around it, be it ``init_cfg``, ``load_from`` or an inference function, may
    bring plain weights, in the key layout of the host library or, for a
    MobileNetV2, of torchvision. Plain convolutions and parents take theirs
    exactly. For a child, the hidden channels of its block are permuted to
    match the parent's kernel, the static modulation is set to keep the norm
    of each filter, and the gate starts neutral: at 0.5, with ``fc2`` at zero
    and the factor 2 in the static modulation, so that it is not saturated. A
    residual block that the weights do not have starts as the identity, if they
    have all blocks of its stage before it. What the weights do not mention
    stays as it is. The log says what was done, and ``unit.plain_report`` keeps
    it, see :func:`mmkdna.pretrained.plain_report`. A state dict with adapters
    in it is loaded as it is. Units inside the unit take their own weights
    themselves.

    Args:
        unit (nn.Module): A linked backbone, neck or head.
    """
    if not accepts_plain_weights(unit):
        unit._register_load_state_dict_pre_hook(
            _convert_before_loading, with_module=True)


def accepts_plain_weights(module: nn.Module) -> bool:
    return any(
        getattr(hook, 'hook', None) is _convert_before_loading
        for hook in module._load_state_dict_pre_hooks.values())


@torch.no_grad()
def _convert_before_loading(unit: Any, state_dict: Weights, prefix: str,
                            metadata: dict, strict: bool,
                            missing_keys: list[str],
                            unexpected_keys: list[str],
                            errors: list[str]) -> None:
    """Convert a unit's weights in a state dict right before torch loads it."""
    inner = _inner_units(unit)
    modules = {
        name: module
        for name, module in unit.named_modules()
        if not f'{name}.'.startswith(inner)
    }
    keys = [
        key for key in state_dict
        if key.startswith(prefix) and not key[len(prefix):].startswith(inner)
    ]
    if not keys:
        return
    # Of a child whose parent was replaced nobody would take the kernel.
    named_convs(unit)
    weights = {key[len(prefix):]: state_dict[key] for key in keys}
    weights = rename_layers(modules, weights)
    make_kernels_of_matrices(modules, weights)
    unit.plain_report = None
    if not any('.adapter.' in key for key in weights):
        weights, names = merge_names(weights, first_names(unit))
        weights = _convert(unit, modules, weights, prefix, errors)
        spread_names(weights, names)
    _drop_own_kernels(modules, weights)

    for key in keys:
        del state_dict[key]
    for key, value in weights.items():
        state_dict[prefix + key] = value


def _inner_units(unit: nn.Module) -> tuple[str, ...]:
    """Find the units inside a unit, as the backbone in mmdet's RFP.

    Returns:
        tuple[str]: What the names of their modules start with.
    """
    return tuple(f'{name}.' for name, module in unit.named_modules()
                 if module is not unit and accepts_plain_weights(module))


def _convert(unit: Any, modules: Modules, weights: Weights, prefix: str,
             errors: list[str]) -> Weights:
    """Convert plain weights, and leave a report of it at the unit.

    Args:
        unit (nn.Module): The unit.
        modules (dict[str, nn.Module]): Its modules by name.
        weights (dict[str, Tensor]): Plain weights by key.
        prefix (str): What precedes the keys in the whole state dict.
        errors (list[str]): Gets what torch is to say of wrong shapes.

    Returns:
        dict[str, Tensor]: The weights of the unit.
    """
    if type(unit).__name__.endswith('MobileNetV2'):
        weights = rename_mobilenet(modules, weights, prefix, errors)
    given = dict(weights)
    blocks = {name: block_layers(name, m) for name, m in modules.items()}
    blocks = {name: layers for name, layers in blocks.items() if layers}

    children = _children_with_kernels(modules, weights, prefix, errors)
    missing_blocks = find_missing_blocks(weights, modules, blocks)
    _give_to_missing_parents(weights, children, missing_blocks)
    identity = start_as_identity(weights, modules, blocks, missing_blocks)
    # For the time being, children are compared with the parents there are.
    borrowed = _kernels_of_other_parents(weights, modules, children)
    weights.update(borrowed)
    aligned = align_blocks(weights, modules, blocks, children)
    fits = [
        fit_adapter(weights, modules[child], child, parent)
        for child, parent in children.items()
    ]
    for key in borrowed:
        del weights[key]

    shapes = state_shapes(modules)
    taken = {
        key
        for key, shape in shapes.items() if has_tensor(weights, key, shape)
    }
    unit.plain_report = PlainReport(
        unit=type(unit).__name__,
        exact=[
            key for key in weights
            if key in taken and weights[key] is given.get(key)
        ],
        fits=fits,
        aligned=aligned,
        identity=identity,
        stuck=find_stuck_blocks(modules, blocks, identity),
        # Old checkpoints have no counters, which torch makes up for.
        missing=[
            key for key in shapes
            if key not in taken and not key.endswith(COUNTER)
        ],
        unexpected=[key for key in weights if key not in shapes])
    if str(unit.plain_report):
        print_log(str(unit.plain_report), logger='current')
    return weights


def _children_with_kernels(modules: Modules, weights: Weights, prefix: str,
                           errors: list[str]) -> dict[str, str]:
    """Find the children for which the weights have a kernel.

    A child has no parameter that a kernel of a wrong shape would not fit, so
    that is looked at here.

    Returns:
        dict[str, str]: Name of the child to that of its parent.
    """
    names = {module: name for name, module in modules.items()}
    children = {}
    for child, conv in modules.items():
        key = f'{child}.weight'
        if (not isinstance(conv, KernelDNAConv2d) or conv.adapter is None
                or key not in weights):
            continue
        # After deploying, a child has its own kernel behind its gate.
        parent = child if conv.parent is None else names[conv.parent]
        parents_key = f'{parent}.weight'
        if not has_tensor(weights, key, conv.weight_shape):
            given = weights.pop(key)
            errors.append(
                f'size mismatch for {prefix}{key}: a kernel of shape '
                f'{tuple(given.shape)} is given, {conv.weight_shape} is '
                'expected')
        elif (parents_key not in weights
              or has_tensor(weights, parents_key, conv.weight_shape)):
            children[child] = parent
    return children


def _give_to_missing_parents(weights: Weights, children: dict[str, str],
                             missing_blocks: list[str]) -> None:
    """Give the parents in missing blocks the kernel of a child."""
    prefixes = tuple(f'{block}.' for block in missing_blocks)
    for child, parent in children.items():
        if f'{parent}.weight' not in weights and parent.startswith(prefixes):
            weights[f'{parent}.weight'] = weights[f'{child}.weight'].clone()


def _kernels_of_other_parents(weights: Weights, modules: Modules,
                              children: dict[str, str]) -> Weights:
    """Look up the kernels of parents that the weights do not mention.

    Returns:
        dict[str, Tensor]: What the parents have now, by key, where the weights
        are.
    """
    return {
        f'{parent}.weight':
        modules[parent].weight.detach().to(weights[f'{child}.weight'].device)
        for child, parent in children.items()
        if f'{parent}.weight' not in weights
    }


def _drop_own_kernels(modules: Modules, weights: Weights) -> None:
    """End the own kernels of children, where those of a checkpoint have.

    Such a checkpoint has all kernels that are not derived, and the adapters
    without the own kernels. A few weights of a unit end nothing.
    """
    convs: Modules = {
        name: module
        for name, module in modules.items()
        if isinstance(module, KernelDNAConv2d)
    }
    if not all(f'{name}.weight' in weights
               for name, conv in convs.items() if conv.parent in (None, conv)):
        return
    for name, conv in convs.items():
        if not conv.keeps_own_kernel or f'{name}.own_weight' in weights:
            continue
        keys = conv.adapter.state_dict()
        if not keys or any(f'{name}.adapter.{key}' in weights for key in keys):
            conv.drop_own_weight()
