"""A linked model made ready to fuse and to export."""
from __future__ import annotations
from typing import Any

from mmengine.config import Config
from torch import nn
from torch.nn.utils import parametrize

from .backbones import BACKBONES
from .backbones.base import CONV_TYPES, type_path
from .sharing import named_convs

TRAINING_HOOKS = ('ChildFittingHook', 'KernelSharingHook')


def switch_to_deploy(model: nn.Module) -> nn.Module:
    """Give every child its own, folded kernel, in place.

    A child becomes an independent convolution behind a gate into which its
    batch norm is folded; a parent becomes a plain convolution. What the model
    computes in eval mode stays the same up to rounding, and folding norms into
    convolutions (mmcv's ``fuse_conv_bn``) is exact from then on.

    Args:
        model (nn.Module): A linked model.

    Returns:
        nn.Module: The same model.

    Raises:
        ValueError: If a child in ``model`` has its parent outside of it.
    """
    convs = named_convs(model).values()
    for conv in convs:
        if parametrize.is_parametrized(conv):
            # In train mode a look at a spectral_norm changes it.
            conv.parametrizations.eval()
    for conv in convs:
        conv.switch_to_deploy()
    return model


def deploy_config(cfg: Config) -> Config:
    """The config of a model after :func:`switch_to_deploy`.

    Args:
        cfg (Config): Config of the model before.

    Returns:
        Config: A copy in which every KernelDNA convolution and backbone has
        ``deploy=True``, without the hooks that only training needs. Where
        ``cfg`` imports classes, it names them.
    """
    # A lazy config names a class until it is asked for it.
    cfg = Config(cfg.to_dict())
    cfg.model = _deployed(cfg.model)
    # The import of a class was that of its package.
    cfg.setdefault('custom_imports', dict(imports=['mmkdna']))
    if cfg.get('custom_hooks'):
        cfg.custom_hooks = [
            hook for hook in cfg.custom_hooks
            if type_path(hook['type'])[-1] not in TRAINING_HOOKS
        ]
    return cfg


def _deployed(node: Any) -> Any:
    if isinstance(node, (list, tuple)):
        return type(node)(_deployed(item) for item in node)
    if not isinstance(node, dict):
        return node
    for key, value in node.items():
        node[key] = _deployed(value)
    path = type_path(node.get('type'))
    if path[-1] in CONV_TYPES:
        node.update(type='KernelDNA', deploy=True, keep_own_kernel=False)
    elif path[-1] in BACKBONES:
        # Registered by the name of the host library, as is its module.
        node['type'] = '.'.join(path[-2:])
        node.setdefault('conv_cfg', dict(type='KernelDNA', deploy=True))
    return node
