"""What of a network is reconstructed at once."""
from __future__ import annotations
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Callable, Iterator, NamedTuple

import torch
from torch import Tensor, nn

from ..conv import KernelDNAConv2d
from ..pretrained.plain import accepts_plain_weights

Modules = dict[str, nn.Module]


@dataclass(frozen=True)
class Part:
    """A module that maps one tensor to one, and is reconstructed at once.

    Attributes:
        name (str): Its name in the model.
        children (tuple[str]): Names of the children in it; none in a part
            that only follows them.
        calls (int): How often a forward calls it.
        is_next (bool): Whether it reads what the part before it gives.
    """
    name: str
    children: tuple[str, ...]
    calls: int
    is_next: bool


def find_parts(model: nn.Module,
               run: Callable[[], Any]) -> tuple[list[Part], list[str]]:
    """Find what can be reconstructed.

    For a child it is the outermost module around it, within its backbone, neck
    or head, that a forward calls with one tensor and that gives one: a stage,
    a block, or a convolution with its norm. What runs after the first of these
    in the same unit, and is such a module, follows.

    Args:
        model (nn.Module): A linked model.
        run (callable): Runs the model once.

    Returns:
        tuple[list[Part], list[str]]: The parts in the order in which they run,
        and the names of children that keep their own kernel and that no part
        has.
    """
    modules = dict(model.named_modules())
    around = {
        name: _modules_around(name, modules)
        for name, conv in modules.items()
        if isinstance(conv, KernelDNAConv2d) and conv.keeps_own_kernel
    }
    watched = {name for names in around.values() for name in names}
    for unit in {_unit_of(name, modules) for name in around}:
        watched |= set(_members(unit, modules[unit]))
    calls = find_calls(modules, watched, run)
    children: dict[str, list[str]] = {}
    left_out = []
    for child, names in around.items():
        part = next((name for name in names if calls.get(name)), None)
        if part is None:
            left_out.append(child)
        else:
            children.setdefault(part, []).append(child)
    order = list(calls)
    first = min(map(order.index, children), default=len(order))
    followers = [
        name for name in order[first:] if calls[name] and not any(
            holds(name, other) or holds(other, name) for other in children)
    ]
    names = [
        name for name in order
        if name in children or (name in followers and not any(
            holds(other, name) for other in followers))
    ]
    parts = [
        Part(
            name, tuple(children.get(name, ())), len(calls[name]), before != ''
            and [call.input for call in calls[name]
                 ] == [call.output for call in calls[before]])
        for before, name in zip(['', *names], names)
    ]
    return parts, left_out


def holds(outer: str, name: str) -> bool:
    """Whether a module is inside another one.

    Args:
        outer (str): Name of the other one.
        name (str): Name of the module.

    Returns:
        bool: The answer; a module is not inside itself.
    """
    return name.startswith(f'{outer}.')


class PartCall(NamedTuple):
    """What a module takes and gives; two are equal if nothing was in
    between."""
    input: tuple[int, int]
    output: tuple[int, int]


def find_calls(modules: Modules, watched: set[str],
               run: Callable[[], Any]) -> dict[str, list[PartCall]]:
    """Find the calls of modules that take one tensor, and give one.

    Args:
        modules (dict[str, nn.Module]): Modules by name.
        watched (set[str]): Those that are looked at.
        run (callable): Runs the model once.

    Returns:
        dict[str, list[PartCall]]: By name, in the order in which they are done
        first; empty for a module that takes or gives anything else.
    """
    calls: dict[str, list[PartCall]] = {}
    other: set[str] = set()
    # Kept, so that no two have the same id.
    alive: list[Tensor] = []
    inputs: dict[str, tuple[int, int]] = {}

    def state(tensor: Tensor) -> tuple[int, int]:
        alive.append(tensor)
        # What is changed in place is another one.
        return id(tensor), tensor._version

    def before(name: str, args: Any, kwargs: Any) -> None:
        if len(args) == 1 and not kwargs and torch.is_tensor(args[0]):
            inputs[name] = state(args[0])
        else:
            other.add(name)

    def after(name: str, output: Any) -> None:
        calls.setdefault(name, [])
        if torch.is_tensor(output) and name not in other:
            calls[name].append(PartCall(inputs[name], state(output)))
        else:
            other.add(name)

    with ExitStack() as stack:
        for name in watched:
            for handle in (modules[name].register_forward_pre_hook(
                    lambda _, args, kwargs, name=name: before(
                        name, args, kwargs),
                    with_kwargs=True), modules[name].register_forward_hook(
                        lambda _, args, output, name=name: after(name, output))
                           ):
                stack.callback(handle.remove)
        run()
    return {
        name: [] if name in other else found
        for name, found in calls.items()
    }


def _members(name: str, module: nn.Module) -> Iterator[str]:
    """Name what is directly in a module, or in a list in it, and has
    weights."""
    for part, member in module.named_children():
        path = f'{name}.{part}'.lstrip('.')
        if isinstance(member, nn.ModuleList):
            yield from _members(path, member)
        elif any(True for _ in member.parameters()):
            yield path


def _unit_of(name: str, modules: Modules) -> str:
    """Name the innermost unit around a convolution."""
    units = [n for n in _prefixes(name) if accepts_plain_weights(modules[n])]
    return units[-1] if units else ''


def _modules_around(name: str, modules: Modules) -> list[str]:
    """Name the modules around a convolution within its unit, and itself."""
    names = _prefixes(name)
    unit = _unit_of(name, modules)
    return names[names.index(unit) + 1:] if unit else names


def _prefixes(name: str) -> list[str]:
    """Name a module and those around it, the outermost first."""
    parts = name.split('.')
    return ['.'.join(parts[:end]) for end in range(1, len(parts) + 1)]
