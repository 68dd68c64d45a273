"""The links that could be made in a network."""
from __future__ import annotations
from collections import defaultdict
from dataclasses import dataclass
from typing import Hashable, Iterable

from torch import nn

from ..conv import KernelDNAConv2d
from ..linking import stage_of
from ..options import is_on_shortcut
from ..sharing import named_convs
from ..similarity import compare_kernels

# Of so many kin each may be the child of each other one.
MOST_KIN = 6


@dataclass(frozen=True)
class Candidate:
    """A link that could be made.

    Attributes:
        unit (str): Name of the backbone, neck or head in the model.
        child (str): Name of the child in the unit.
        parent (str): Name of its parent in the unit.
        saved (int): Parameters that it saves, less those of the adapter.
    """
    unit: str
    child: str
    parent: str
    saved: int


def find_candidates(model: nn.Module, units: Iterable[str]) -> list[Candidate]:
    """Find the links that could be made and would save something.

    Kin have one kernel shape and stage; the convolutions of shortcuts are left
    out. Of 6 kin or fewer each may derive its kernel from each other one. Of
    more, a convolution may derive it from the one before, the one behind, the
    one whose kernel is nearest after alignment, and the last one, which is no
    child then, so that all may have one parent.

    Args:
        model (nn.Module): A model of unlinked KernelDNA convolutions.
        units (Iterable[str]): Names of its units; one that it does not have
            does not count.

    Returns:
        list[Candidate]: In the order of the children.
    """
    modules = dict(model.named_modules())
    return [
        candidate for unit in units if unit in modules
        for candidate in _of_unit(unit, modules[unit])
    ]


def count_parameters(model: nn.Module) -> int:
    """Count the parameters of all convolutions.

    Args:
        model (nn.Module): Any module.

    Returns:
        int: Their number, biases included.
    """
    return sum(parameter.numel() for module in model.modules()
               if isinstance(module, nn.Conv2d)
               for parameter in module.parameters())


def _of_unit(name: str, unit: nn.Module) -> list[Candidate]:
    convs = named_convs(unit)
    saved = {conv: _saved(conv) for conv in convs.values()}
    kin: dict[Hashable, list[str]] = defaultdict(list)
    for conv_name, conv in convs.items():
        if saved[conv] > 0 and not is_on_shortcut(conv_name):
            key = (stage_of(conv_name, 1), conv.weight_shape, conv.groups,
                   conv.options.key())
            kin[key].append(conv_name)
    nearest = _nearest(unit, [names for names in kin.values()])
    order = list(convs)
    return sorted((Candidate(name, child, parent, saved[convs[child]])
                   for names in kin.values()
                   for child, parent in _pairs(names, nearest)),
                  key=lambda one:
                  (order.index(one.child), order.index(one.parent)))


def _saved(conv: KernelDNAConv2d) -> int:
    """Parameters that are saved if a convolution becomes a child."""
    if 'weight' not in conv._parameters:
        return 0
    try:
        adapter = conv.make_adapter()
    except ValueError:
        return 0
    return conv.weight.numel() - sum(p.numel() for p in adapter.parameters())


def _pairs(names: list[str], nearest: dict[str, str]) -> set[tuple[str, str]]:
    """Children and parents among kin."""
    if len(names) <= MOST_KIN:
        return {(a, b) for a in names for b in names if a != b}
    pairs = set()
    for i, child in enumerate(names[:-1]):
        parents = {names[i - 1] if i else names[1], names[i + 1], names[-1]}
        if child in nearest:
            parents.add(nearest[child])
        pairs |= {(child, parent) for parent in parents}
    return pairs


def _nearest(unit: nn.Module, groups: list[list[str]]) -> dict[str, str]:
    """Of each convolution with many kin, the kin with the nearest kernel."""
    kin = {name: names for names in groups for name in names}
    found: dict[str, tuple[float, str]] = {}
    stages = {
        '.'.join(stage_of(names[0], 1))
        for names in groups if len(names) > MOST_KIN
    }
    for stage in stages:
        before = f'{stage}.' if stage else ''
        for pair in compare_kernels(unit.get_submodule(stage), 0):
            one = pair.distance, before + pair.other
            child = before + pair.conv
            # Shortcuts and other stages are compared, too.
            if one[1] in kin.get(child, ()):
                found[child] = min(found.get(child, one), one)
    return {child: other for child, (_, other) in found.items()}
