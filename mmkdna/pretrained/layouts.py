"""Plain weights under other names and in other shapes than a unit's."""
from __future__ import annotations
from typing import Any, Dict, List, Sequence

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..hosts import Layer
from ..unit_conv import UnitConv

# Tensors by key, modules by name, and the main paths of residual blocks by
# name. Modules are those of any host library, with attributes of their own.
Weights = Dict[str, Tensor]
Modules = Dict[str, Any]
Blocks = Dict[str, List[Layer]]

# What norms have per channel: batch norms, and MMPretrain's global response
# normalization.
NORM_KEYS = ('weight', 'bias', 'running_mean', 'running_var')
GRN_KEYS = ('gamma', 'beta')
# A batch norm's count of batches: no weight, and new in torch 1.0.
COUNTER = 'num_batches_tracked'


def make_kernels_of_matrices(modules: Modules, weights: Weights) -> None:
    """Take a linear layer's matrix for the kernel of a 1x1 convolution.

    A ConvNeXt has the one or the other, with adapters or without.

    Args:
        modules (dict[str, nn.Module]): Those of a unit, by name.
        weights (dict[str, Tensor]): Weights by key; changed in place.
    """
    for name, module in modules.items():
        matrix = weights.get(f'{name}.weight')
        if (_is_conv(module) and module.kernel_size == (1, 1)
                and matrix is not None and matrix.dim() == 2):
            weights[f'{name}.weight'] = matrix[:, :, None, None]


def merge_names(weights: Weights,
                first: dict[str, str]) -> tuple[Weights, dict[str, str]]:
    """Put what a module is given under several names under its first one.

    Args:
        weights (dict[str, Tensor]): Weights by key.
        first (dict[str, str]): From :func:`mmkdna.sharing.first_names`.

    Returns:
        tuple[dict[str, Tensor], dict[str, str]]: The weights; where a module
        is given several, those that torch would load last. And those of
        ``first`` under which something was given, for :func:`spread_names`.
    """
    merged: Weights = {}
    found: dict[str, list[str]] = {}
    for key, value in weights.items():
        owner = key.rpartition('.')[0]
        while owner and owner not in first:
            owner = owner.rpartition('.')[0]
        if owner:
            found.setdefault(owner, []).append(key)
        else:
            merged[key] = value
    names = {name: first[name] for name in first if name in found}
    for name, module in names.items():
        for key in found[name]:
            merged[module + key[len(name):]] = weights[key]
    return merged, names


def spread_names(weights: Weights, names: dict[str, str]) -> None:
    """Give a module its weights under all names that were given.

    Args:
        weights (dict[str, Tensor]): Weights by key; changed in place.
        names (dict[str, str]): From :func:`merge_names`.
    """
    for name, first in names.items():
        for key in list(weights):
            if key.startswith(f'{first}.'):
                weights[name + key[len(first):]] = weights[key]


def rename_mobilenet(modules: Modules, weights: Weights, prefix: str,
                     errors: list[str]) -> Weights:
    """Give a MobileNetV2's keys the names that they have in a unit.

    torchvision, mmdet and mmpretrain hold the same layers in the same order
    under three names.

    Args:
        modules (dict[str, nn.Module]): Those of a unit, by name.
        weights (dict[str, Tensor]): Weights by key.
        prefix (str): What precedes the keys in the whole state dict.
        errors (list[str]): Gets what is said of another network's weights.

    Returns:
        dict[str, Tensor]: The weights under their new names, or as they were
        if they have these names already, all or some, or are those of another
        network.
    """
    ours = plain_shapes(modules)
    if any(key in weights for key in ours):
        return weights
    theirs = [key for key in weights if not key.endswith(COUNTER)]
    new_names = {}
    for (key, shape), their_key in zip(ours.items(), theirs):
        path, _, part = key.rpartition('.')
        their_path, _, their_part = their_key.rpartition('.')
        their_shape = tuple(weights[their_key].shape)
        if part != their_part or their_shape != shape:
            errors.append(
                f'{prefix}{their_key} of shape {their_shape} stands in the '
                f'place of {prefix}{key} of shape {shape}: these are not the '
                'weights of this MobileNetV2')
            return weights
        new_names[their_key] = key
        new_names[f'{their_path}.{COUNTER}'] = f'{path}.{COUNTER}'
    return {new_names.get(key, key): v for key, v in weights.items()}


def plain_shapes(modules: Modules) -> dict[str, tuple[int, ...]]:
    """List the shapes of the plain network's convolutions and norms.

    Args:
        modules (dict[str, nn.Module]): Those of a unit, by name.

    Returns:
        dict[str, tuple[int]]: Shape by key, in the order of the modules. Of
        the norms, batch norms and global response normalizations only, which
        do not mix channels.
    """
    shapes: dict[str, tuple[int, ...]] = {}
    # The norms of gates and attentions have no counterparts.
    inside = tuple(f'{name}.' for name, module in modules.items()
                   if isinstance(module, UnitConv))
    for name, module in modules.items():
        if _is_conv(module):
            shapes[f'{name}.weight'] = (module.out_channels,
                                        module.in_channels // module.groups,
                                        *module.kernel_size)
            if module.bias is not None:
                shapes[f'{name}.bias'] = (module.out_channels, )
        elif isinstance(module, _BatchNorm) and not name.startswith(inside):
            for key in NORM_KEYS:
                shapes[f'{name}.{key}'] = (module.num_features, )
        elif type(module).__name__ == 'GRN':
            for key in GRN_KEYS:
                shapes[f'{name}.{key}'] = (module.in_channels, )
    return shapes


def _is_conv(module: nn.Module) -> bool:
    """Whether the plain network has a plain convolution there.

    DCN and the like take their weights themselves.
    """
    return type(module) is nn.Conv2d or isinstance(module, UnitConv)


def state_shapes(modules: Modules) -> dict[str, tuple[int, ...]]:
    """List the shapes of what modules load from a state dict.

    Args:
        modules (dict[str, nn.Module]): Those of a unit, by name.

    Returns:
        dict[str, tuple[int]]: Shape by key, of parameters and buffers.
    """
    shapes = {}
    for name, module in modules.items():
        prefix = f'{name}.' if name else ''
        saved: Weights = dict(module.named_parameters(recurse=False))
        saved.update((key, buffer)
                     for key, buffer in module.named_buffers(recurse=False)
                     if key not in module._non_persistent_buffers_set)
        for key, tensor in saved.items():
            shapes[prefix + key] = tuple(tensor.shape)
    return shapes


def has_tensor(weights: Weights, key: str, shape: Sequence[int]) -> bool:
    """Tell whether there is a tensor of a key, and of a shape.

    Args:
        weights (dict[str, Tensor]): Weights by key.
        key (str): The key.
        shape (Sequence[int]): The shape.

    Returns:
        bool: Whether there is.
    """
    return key in weights and tuple(weights[key].shape) == tuple(shape)
