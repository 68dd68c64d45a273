"""The scope ``mmkdna``, and linking of whatever a model registry builds."""
from __future__ import annotations
import functools
from typing import Any, Callable

from mmcv.cnn import ConvModule
from mmengine.config import Config
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import DefaultScope, Registry
from torch import nn

from .backbones import register_backbones
from .unit import link_kernels

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmkdna', locations=['mmkdna'])

# What is built on its own, but shares with others only.
SINGLE = (nn.Conv2d, ConvModule)


def link_what_is_built(registry: Registry) -> None:
    """Have a model registry and its children link what they build.

    What a registry builds is a backbone, a neck, a head or a whole model; the
    innermost of these that holds a KernelDNA convolution is the first to link
    it, so kernels are shared inside a backbone, neck or head only. A single
    convolution waits for the module that it is built for. Registries
    made later copy their parent's build function and with it this step.

    Args:
        registry (Registry): A model registry. One that links already stays
            as it is.
    """
    if not hasattr(registry.build_func, 'links_kernels'):
        registry.build_func = _linking(registry.build_func)
    for child in registry.children.values():
        link_what_is_built(child)


def _linking(build_func: Callable[..., Any]) -> Callable[..., Any]:

    @functools.wraps(build_func)
    def build_and_link(cfg: Any, registry: Registry, *args: Any,
                       **kwargs: Any) -> Any:
        if isinstance(cfg, (dict, Config)):
            register_backbones(cfg, _scope(cfg, registry))
        built = build_func(cfg, registry, *args, **kwargs)
        # A list of configs becomes a Sequential of units of their own.
        for unit in (built if isinstance(cfg, list) else [built]):
            if isinstance(unit, nn.Module) and not isinstance(unit, SINGLE):
                link_kernels(unit)
        return built

    build_and_link.links_kernels = True  # type: ignore[attr-defined]
    return build_and_link


def _scope(cfg: dict[str, Any], registry: Registry) -> str:
    """The scope in which ``registry`` looks for a ``cfg`` without prefix."""
    if cfg.get('_scope_'):
        return cfg['_scope_']
    default = DefaultScope.get_current_instance()
    return registry.scope if default is None else default.scope_name
