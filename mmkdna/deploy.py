"""Models made ready to fuse and to export, and the configs of other forms."""
from __future__ import annotations
from dataclasses import fields
from typing import Any, Callable, Mapping, Sequence

import torch
from mmengine.config import Config
from torch import Tensor, nn
from torch.nn.utils import parametrize

from .backbones import BACKBONES
from .backbones.base import CONV_TYPES, type_path
from .options import SharingOptions
from .sharing import named_convs

TRAINING_HOOKS = ('KernelSharingHook', 'ReconstructionHook')


def switch_to_deploy(model: nn.Module) -> nn.Module:
    """Give every child its own, folded kernel, in place.

    A child becomes an independent convolution behind a gate into which its
    batch norm is folded; a parent becomes a plain convolution. What the model
    computes in eval mode stays the same up to rounding, and folding norms into
    convolutions (mmcv's ``fuse_conv_bn``) is exact from then on.

    A child's kernel and the layer of its gate into which a norm is folded are
    new parameters. An optimizer that was made before does not have them and
    leaves them as they are: to train on, make the optimizer, and a DDP or EMA
    around the model, afterwards.

    Args:
        model (nn.Module): A linked model.

    Returns:
        nn.Module: The same model.

    Raises:
        ValueError: If a child in ``model`` has its parent outside of it.
            Nothing is changed then.
        RuntimeError: If FSDP has the parents' kernels in pieces, or gates are
            quantized.
    """
    named = named_convs(model)
    for name, conv in named.items():
        gate = None if conv.adapter is None else conv.adapter.gate
        if gate is not None and not isinstance(gate.fc1, nn.Linear):
            raise RuntimeError(
                f'the gate of {name} has a layer of {type(gate.fc1)!r} where '
                'an nn.Linear is expected, into which its norm is folded: '
                'call mmkdna.switch_to_deploy(model) before quantizing')
    convs = named.values()
    for conv in convs:
        if parametrize.is_parametrized(conv):
            # In train mode a look at a spectral_norm changes it.
            conv.parametrizations.eval()
    for conv in convs:
        conv.switch_to_deploy()
    return model


def check_sharing(model: nn.Module) -> None:
    """Check that a model shares, so that its weights are small as they are.

    A model that is built with ``deploy=True`` takes these weights as well, see
    :func:`mmkdna.shared_weights.accept_shared_weights`.

    Args:
        model (nn.Module): A linked model.

    Raises:
        ValueError: If no convolution derives from another one, or a child
            keeps its own kernel.
    """
    children = {
        name: conv
        for name, conv in named_convs(model).items()
        if conv.parent not in (None, conv)
    }
    if not children:
        raise ValueError('none of its convolutions derives its kernel from '
                         'another one, so that there is no sharing to keep')
    own = [name for name, conv in children.items() if conv.keeps_own_kernel]
    if own:
        raise ValueError(
            f'{len(own)} children still compute with kernels of their own, '
            f'the first is {own[0]}: train on until KernelSharingHook or '
            'ReconstructionHook has taken them away, or deploy without sharing'
        )


def fold_gates(model: nn.Module) -> nn.Module:
    """Fold the batch norms of gates, in place; children go on deriving.

    Args:
        model (nn.Module): A linked model.

    Returns:
        nn.Module: The same model.
    """
    for conv in named_convs(model).values():
        if conv.adapter is not None and conv.adapter.gate is not None:
            conv.adapter.gate.fold_norm()
    return model


@torch.no_grad()
def fold_constant_gates(model: nn.Module, gates: Mapping[str,
                                                         Tensor]) -> nn.Module:
    """Fold gates that are the same for all pictures, in place.

    A child becomes a plain convolution, whose kernel has the gate's factors.

    Args:
        model (nn.Module): A model after :func:`switch_to_deploy`.
        gates (Mapping[str, Tensor]): What the gates are taken to be, by name
            of the child, shape (C_in, ).

    Returns:
        nn.Module: The same model.

    Raises:
        ValueError: If one of them is no deployed child with a gate. Nothing is
            changed then.
    """
    convs = named_convs(model)
    for name in gates:
        conv = convs.get(name)
        if (conv is None or conv.parent is not None or conv.adapter is None
                or conv.adapter.gate is None):
            raise ValueError(f'{name} is given, but it is no deployed child '
                             'with a gate: mmkdna.switch_to_deploy(model) '
                             'deploys a model')
    for name, gate in gates.items():
        conv = convs[name]
        kernel = conv.weight.unflatten(0, (conv.groups, -1))
        kernel.mul_(gate.to(kernel).reshape(conv.groups, 1, -1, 1, 1))
        conv.adapter = None
        conv.options = conv.options.without_gate()
    return model


def ungated_config(cfg: Config, names: Sequence[str]) -> Config:
    """Write the config of a model after :func:`fold_constant_gates`.

    Args:
        cfg (Config): Config of the model before, of :func:`deploy_config`.
        names (Sequence[str]): Children whose gates are folded, by their names
            in the model.

    Returns:
        Config: A copy in which they are ``ungated``.

    Raises:
        ValueError: If it cannot be seen of which ``conv_cfg`` one is.
    """
    cfg = Config(cfg.to_dict())
    for name in names:
        node: Any = cfg.model
        parts = name.split('.')
        # The backbone, neck or head, which may be a part of another one.
        while isinstance(node, dict) and 'conv_cfg' not in node and parts:
            node = node.get(parts.pop(0))
        if not isinstance(node, dict) or not isinstance(
                node.get('conv_cfg'), dict):
            raise ValueError(f'the conv_cfg of {name} is not found in the '
                             'config: its gate cannot be left out by it')
        conv_cfg: Any = node['conv_cfg']
        conv_cfg['ungated'] = (*conv_cfg.get('ungated', ()), '.'.join(parts))
    return cfg


def deploy_config(cfg: Config) -> Config:
    """Write the config of a model after :func:`switch_to_deploy`.

    Args:
        cfg (Config): Config of the model before.

    Returns:
        Config: A copy in which every KernelDNA convolution and backbone has
        ``deploy=True``, without the hooks that only training needs. Where
        ``cfg`` imports classes, it names them.
    """
    return _other_form(cfg, _deploy_conv, _deploy_backbone)


def plain_config(cfg: Config) -> Config:
    """Write the config of the same network without sharing.

    Args:
        cfg (Config): Config of a model.

    Returns:
        Config: A copy in which every KernelDNA convolution is a ``Conv2d``
        and every KernelDNA backbone has ``sharing_stages=()``, without the
        hooks that fit children. Where ``cfg`` imports classes, it names them.
    """
    return _other_form(cfg, _make_conv_plain, _make_backbone_plain)


def own_kernel_config(cfg: Config) -> Config:
    """Write the config of a model whose children keep their own kernel.

    Args:
        cfg (Config): Config of a model.

    Returns:
        Config: A copy in which every KernelDNA convolution that shares has
        ``keep_own_kernel=True``, without the hooks that only training needs.
        Where ``cfg`` imports classes, it names them.
    """
    return _other_form(cfg, _keep_own_kernel, _keep_own_kernels)


def _other_form(cfg: Config, change_conv: Callable[[dict], None],
                change_backbone: Callable[[dict], None]) -> Config:
    """Copy a config, with all that is KernelDNA's in its model changed."""
    # A lazy config names a class until it is asked for it.
    cfg = Config(cfg.to_dict())
    cfg.model = _walk(cfg.model, change_conv, change_backbone)
    # The import of a class was that of its package.
    cfg.setdefault('custom_imports', dict(imports=['mmkdna']))
    if cfg.get('custom_hooks'):
        cfg.custom_hooks = [
            hook for hook in cfg.custom_hooks
            if type_path(hook['type'])[-1] not in TRAINING_HOOKS
        ]
    return cfg


def _walk(node: Any, change_conv: Callable[[dict], None],
          change_backbone: Callable[[dict], None]) -> Any:
    """Change the parts of a model's config, the inner before the outer."""
    if isinstance(node, (list, tuple)):
        return type(node)(
            _walk(item, change_conv, change_backbone) for item in node)
    if not isinstance(node, dict):
        return node
    for key, value in node.items():
        node[key] = _walk(value, change_conv, change_backbone)
    path = type_path(node.get('type'))
    if path[-1] in CONV_TYPES:
        change_conv(node)
    elif path[-1] in BACKBONES:
        # Registered by the name of the host library, as is its module.
        node['type'] = '.'.join(path[-2:])
        change_backbone(node)
    return node


def _keep_own_kernel(cfg: dict) -> None:
    cfg['keep_own_kernel'] = bool(cfg.get('share', True))


def _keep_own_kernels(cfg: dict) -> None:
    cfg.setdefault('conv_cfg', dict(type='KernelDNA', keep_own_kernel=True))


def _deploy_conv(cfg: dict) -> None:
    cfg.update(type='KernelDNA', deploy=True, keep_own_kernel=False)


def _deploy_backbone(cfg: dict) -> None:
    cfg.setdefault('conv_cfg', dict(type='KernelDNA', deploy=True))


def _make_conv_plain(cfg: dict) -> None:
    for option in fields(SharingOptions):
        cfg.pop(option.name, None)
    cfg['type'] = 'Conv2d'


def _make_backbone_plain(cfg: dict) -> None:
    # The backbone takes no conv_cfg of another type.
    cfg.pop('conv_cfg', None)
    cfg['sharing_stages'] = ()
