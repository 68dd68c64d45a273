"""What the host libraries look like; no other file knows.

Their names for blocks, layers, shortcuts and stems, and what installs them.
"""
from __future__ import annotations
import re
from importlib.util import find_spec
from typing import Any, NamedTuple, Optional

from torch import Tensor, nn

# The hosts, and what of setup.py's extras installs them.
EXTRAS = dict(
    mmdet='det', mmseg='seg', mmpretrain='pretrain', mmrotate='rotate')
# Those whose models have the backbones of another one.
LENDERS = dict(mmrotate='mmdet')
HOSTS = tuple(host for host in EXTRAS if host not in LENDERS)

# Parts of a module's name that mark the shortcut of a residual block.
SHORTCUTS = ('downsample', 'shortcut')
# mmdet's names for the layers of an inverted residual.
STEPS = ('expand_conv', 'depthwise_conv', 'linear_conv')


def missing_host(name: str | None) -> str:
    """Say what to do about a host library that is not installed.

    Args:
        name (str | None): Name of its module.

    Returns:
        str: Empty if it is installed, or no host library.
    """
    if name not in EXTRAS or find_spec(name) is not None:
        return ''
    return (f'{name} is not installed: pip install '
            f'"mmkdna[{EXTRAS[name]}]" installs it')


def block_name(name: str) -> str:
    """Name the block in which a convolution stands.

    Args:
        name (str): Name of the convolution.

    Returns:
        str: Name of the module it is in; of the whole inverted residual, if
        that module is a layer of one.
    """
    return re.sub(rf'\.(conv\.\d+|{"|".join(STEPS)})$', '',
                  name.rpartition('.')[0])


class Layer(NamedTuple):
    """A convolution and its norm, if any, by the names of their modules."""
    conv: str
    norm: Optional[str]


def block_layers(name: str, block: Any) -> list[Layer]:
    """List the main path of a residual block of a host library.

    Args:
        name (str): Name of the block.
        block (nn.Module): Any module.

    Returns:
        list[Layer]: In forward order; empty if it is no such block, or one
        with more in it than convolutions and norms. Of a ConvNeXt's block,
        the part behind the depthwise convolution, between whose layers there
        is no norm or a global response normalization.
    """
    if getattr(block, 'with_plugins', False) or getattr(
            block, 'with_se', False):
        return []
    if hasattr(block, 'norm1_name') and hasattr(block, 'conv2'):
        return [
            Layer(f'{name}.conv{i}',
                  f'{name}.' + getattr(block, f'norm{i}_name'))
            for i in (1, 2, 3) if hasattr(block, f'conv{i}')
        ]
    if type(block).__name__ == 'ConvNeXtBlock':
        grn = getattr(block, 'grn', None)
        norm = None if grn is None else f'{name}.grn'
        return [
            Layer(f'{name}.pointwise_conv1', norm),
            Layer(f'{name}.pointwise_conv2', None)
        ]
    steps = list(STEPS)
    if not hasattr(block, steps[-1]):
        # ShuffleNet's has the name, but not the layers.
        if (type(block).__name__ != 'InvertedResidual' or
                not isinstance(getattr(block, 'conv', None), nn.Sequential)):
            return []
        steps = [f'conv.{i}' for i in range(len(block.conv))]
    modules = dict(block.named_modules())
    return [
        Layer(f'{name}.{step}.conv',
              f'{name}.{step}.{modules[step].norm_name}') for step in steps
        if step in modules
    ]


def layer_of(name: str, module: Any) -> list[Layer]:
    """List what a ConvModule of mmcv computes with.

    Args:
        name (str): Name of the module.
        module (nn.Module): Any module.

    Returns:
        list[Layer]: The one layer; empty if it is no ConvModule, or one whose
        norm is not behind its convolution.
    """
    if (type(module).__name__ != 'ConvModule'
            or module.order[:2] != ('conv', 'norm')):
        return []
    norm = f'{name}.{module.norm_name}' if module.with_norm else None
    return [Layer(f'{name}.conv', norm)]


def shortcut(block: Any) -> nn.Module | None:
    """Find what is added to a block's main path.

    Args:
        block (nn.Module): One that :func:`block_layers` knows.

    Returns:
        nn.Module | None: Maps the block's input to what is added: an
        ``nn.Identity``, or a convolution and its norm; None where nothing is.
    """
    if getattr(block, 'downsample', None) is not None:
        return block.downsample
    for flag in ('with_res_shortcut', 'use_res_connect'):
        if not getattr(block, flag, True):
            return None
    return nn.Identity()


def rename_layers(modules: dict[str, Any],
                  weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename what the host libraries name differently, adapters included.

    mmdet has names for the layers of a MobileNetV2's blocks, mmseg and
    mmpretrain have numbers. In mmpretrain the deep stem of a ResNet is made
    of ConvModules, in mmdet and mmseg of single layers.

    Args:
        modules (dict[str, nn.Module]): Those of a unit, by name.
        weights (dict[str, Tensor]): Weights by key.

    Returns:
        dict[str, Tensor]: The weights under the names of ``modules``.
    """
    new_names = _stem_names(modules.get('stem'), weights)
    for name, block in modules.items():
        if hasattr(block, 'linear_conv'):
            steps = [step for step in STEPS if hasattr(block, step)]
            for i, step in enumerate(steps):
                new_names[f'{name}.conv.{i}.'] = f'{name}.{step}.'
        elif isinstance(getattr(block, 'conv', None), nn.Sequential):
            for i, step in enumerate(STEPS[-len(block.conv):]):
                new_names[f'{name}.{step}.'] = f'{name}.conv.{i}.'
    renamed = {}
    for key, value in weights.items():
        for old, new in new_names.items():
            if key.startswith(old):
                key = new + key[len(old):]
                break
        renamed[key] = value
    return renamed


def _stem_names(stem: Any, weights: dict[str, Tensor]) -> dict[str, str]:
    """Pair names of a deep stem's layers in the weights with the module's."""
    if not isinstance(stem, nn.Sequential):
        return {}
    whole = {}
    for i in range(3):
        whole[f'stem.{i}.conv.'] = f'stem.{3 * i}.'
        whole[f'stem.{i}.bn.'] = f'stem.{3 * i + 1}.'
    are_single = any(key.startswith('stem.6.') for key in weights)
    if len(stem) == 9 and not are_single:
        return whole
    if len(stem) == 3 and are_single:
        return {single: name for name, single in whole.items()}
    return {}
