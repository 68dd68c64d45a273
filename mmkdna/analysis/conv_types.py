"""Another conv type on the layers that share in a model."""
from __future__ import annotations
from typing import Any

from mmcv.cnn import build_conv_layer
from mmengine.registry import MODELS
from torch import nn

from ..conv import KernelDNAConv2d
from ..options import LayerChoice
from ..sharing import children_of, named_convs
from ..unit import link_kernels
from ..unit_conv import UnitConv


def replace_convs(model: nn.Module, conv_cfg: dict[str, Any]) -> nn.Module:
    """Put another conv type in the place of parents and children.

    So both types stand on the same layers, in whatever way a model came to
    share: by a ``conv_cfg``, or by a backbone of the paper's topology. Its
    KernelDNA convolutions that are neither parent nor child become
    ``nn.Conv2d``. All start from random weights.

    Options that the other type has in common with KernelDNA, beside those
    that choose layers also ``stage_level`` of KernelWarehouse, are those of
    the convolution that is replaced, unless ``conv_cfg`` gives them.

    Args:
        model (nn.Module): A linked model, on the CPU; it is changed in place.
        conv_cfg (dict): Of any conv type, as mmcv's ``build_conv_layer``
            takes it, without options that choose layers.

    Returns:
        nn.Module: The same model.

    Raises:
        ValueError: If there is no such type, an option chooses layers, or
            nothing shares in the model. Nothing is changed then.
    """
    kind = _conv_type(conv_cfg)
    convs = named_convs(model)
    names = {conv: name for name, conv in convs.items()}
    units = set()
    for child in children_of(model):
        assert child.parent is not None and child.parent_name is not None
        # A parent's name in the model ends with that in its unit.
        name = names[child.parent]
        units.add(name[:len(name) - len(child.parent_name)].rstrip('.'))
    if not units:
        raise ValueError(
            f'conv_cfg={conv_cfg!r} is to stand on the layers that share, but '
            f'in this {type(model).__name__} none does: give a config in '
            'which some do, not deployed')
    new = {conv: _build_in_place_of(conv, conv_cfg, kind) for conv in names}
    # A head may have one convolution in several places.
    for module in list(model.modules()):
        for name, part in list(module._modules.items()):
            if isinstance(part, KernelDNAConv2d):
                setattr(module, name, new[part])
    # Inner units first, as when they were built.
    for unit in sorted(units, key=len, reverse=True):
        link_kernels(model.get_submodule(unit))
    return model


def _conv_type(conv_cfg: dict[str, Any]) -> Any:
    """Find the class of a conv type, and check what is said of it."""
    kind = MODELS.get(conv_cfg['type']) if 'type' in conv_cfg else None
    if kind is None:
        raise ValueError(f'conv_cfg={conv_cfg!r} is given, but a type is '
                         'expected that is registered, such as ODConv')
    choosing = sorted(set(conv_cfg) & set(LayerChoice.names()))
    if choosing:
        raise ValueError(
            f'conv_cfg={conv_cfg!r} is given, but {", ".join(choosing)} '
            'would choose other layers than those that share: leave that out, '
            'or write a config of its own')
    return kind


def _build_in_place_of(conv: KernelDNAConv2d, conv_cfg: dict[str, Any],
                       kind: Any) -> nn.Module:
    """Build what stands in the place of one convolution."""
    cfg: dict[str, Any] | None = None
    if conv.role != 'plain':
        common = {}
        if isinstance(kind, type) and issubclass(kind, UnitConv):
            names = set(kind.options_type.names()) & set(conv.options.names())
            common = {name: getattr(conv.options, name) for name in names}
        cfg = {**common, **conv_cfg}
    further: dict[str, Any] = {}
    # Not all conv types take it.
    if conv.padding_mode != 'zeros':
        further['padding_mode'] = conv.padding_mode
    new: nn.Module = build_conv_layer(
        cfg,
        conv.in_channels,
        conv.out_channels,
        conv.kernel_size,
        stride=conv.stride,
        padding=conv.padding,
        dilation=conv.dilation,
        groups=conv.groups,
        bias=conv.bias is not None,
        **further)
    return new.train(conv.training)
