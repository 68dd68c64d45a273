"""Parents and children under FSDP, which shards the weights of a model."""
from __future__ import annotations
from collections import Counter

from torch import nn

from .conv import KernelDNAConv2d
from .sharing import children_of


def kernel_dna_wrap_policy(module: nn.Module,
                           recurse: bool = False,
                           nonwrapped_numel: int = 0) -> bool:
    """Make an FSDP unit of the smallest modules that hold whole links.

    FSDP gathers the weights of a unit right before that unit's forward, so a
    parent has to be in the unit of its children. For a ResNet the units are
    the stages that share, for an FPN it is the neck. What shares nothing
    stays in the unit of the whole model, and so does a head, whose ``loss``
    and ``predict`` are called past FSDP. In a config of mmengine's
    ``FlexibleRunner``::

        strategy = dict(
            type='FSDPStrategy',
            model_wrapper=dict(auto_wrap_policy='kernel_dna_wrap_policy'))

    Args:
        module (nn.Module): Module of a linked model.
        recurse (bool): Whether FSDP asks if to look into the module, and not
            if to make it a unit. Defaults to False.
        nonwrapped_numel (int): Number of parameters that are in no unit yet,
            which FSDP passes and which does not matter. Defaults to 0.

    Returns:
        bool: Whether to look into the module, or else to make it a unit.
    """
    if recurse:
        return True
    if not _may_be_unit(module):
        return False
    inner: set[KernelDNAConv2d] = set()
    for inside in module.modules():
        if inside is not module and _may_be_unit(inside):
            inner |= _children(inside)
    return bool(_children(module) - inner)


def _convs(module: nn.Module) -> list[KernelDNAConv2d]:
    """Find the KernelDNA convolutions in a module."""
    return [m for m in module.modules() if isinstance(m, KernelDNAConv2d)]


def _children(module: nn.Module) -> set[KernelDNAConv2d]:
    """Find the convolutions in a module that derive from another one."""
    return {conv for conv in children_of(module) if conv.parent is not conv}


def _may_be_unit(module: nn.Module) -> bool:
    """Tell whether a module cuts no link, and is run by its forward."""
    containers = (nn.ModuleList, nn.ModuleDict)
    if isinstance(module, containers) or hasattr(module, 'loss'):
        return False
    convs = _convs(module)
    served = Counter(conv.parent for conv in _children(module))
    return set(served) <= set(convs) and all(conv.num_children == served[conv]
                                             for conv in convs)
