"""Reading links: the convolutions by name, the children, and the table."""
from __future__ import annotations
from typing import Iterator, List, NamedTuple, Optional, Tuple

from torch import nn

from .conv import KernelDNAConv2d


def named_convs(module: nn.Module) -> dict[str, KernelDNAConv2d]:
    """Find the KernelDNA convolutions of a module.

    Args:
        module (nn.Module): Any module.

    Returns:
        dict[str, KernelDNAConv2d]: By name, in the order of the modules.

    Raises:
        ValueError: If a child's parent is not among them.
    """
    convs = {
        name: conv
        for name, conv in module.named_modules()
        if isinstance(conv, KernelDNAConv2d)
    }
    inside = set(convs.values())
    for name, conv in convs.items():
        if conv.parent is not None and conv.parent not in inside:
            raise ValueError(
                f'KernelDNA: {name or "this convolution"} of a '
                f'{type(module).__name__} is a child of {conv.parent_name!r}, '
                'which lies outside of that module: pass the whole backbone, '
                'neck or head. If something has put another module into the '
                'place of the parent, as folding its norm may, call '
                'mmkdna.switch_to_deploy(model) before that')
    return convs


def children_of(module: nn.Module) -> Iterator[KernelDNAConv2d]:
    """Find the children in a module.

    Args:
        module (nn.Module): Any module.

    Yields:
        KernelDNAConv2d: Each convolution that has an adapter and a parent, in
        the order of the modules; with ``share=False`` it is its own parent.
    """
    for conv in module.modules():
        if isinstance(conv, KernelDNAConv2d) and conv.parent is not None:
            yield conv


def first_names(module: nn.Module) -> dict[str, str]:
    """Find the modules that are registered under several names.

    Heads do so whose levels share convolutions, as mmdet's RTMDet.

    Args:
        module (nn.Module): Any module.

    Returns:
        dict[str, str]: Each further name to the first, which is the one that
        ``named_modules`` gives, in the order in which torch loads them.
    """
    first = {child: name for name, child in module.named_modules()}
    return {
        name: first[child]
        for name, child in module.named_modules(remove_duplicate=False)
        if name != first[child]
    }


class SharingRow(NamedTuple):
    """One KernelDNA convolution in a :func:`sharing_table`.

    Attributes:
        name (str): Name of the convolution in the model.
        role (str): 'plain', 'parent' or 'child'.
        parent (str | None): Name of a child's parent in the model.
        shape (tuple[int]): Shape of the kernel, owned or derived.
        own_parameters (int): Parameters the convolution owns.
        saved_parameters (int): How many fewer these are than those of a
            plain convolution.
    """
    name: str
    role: str
    parent: Optional[str]
    shape: Tuple[int, ...]
    own_parameters: int
    saved_parameters: int


class SharingTable(List[SharingRow]):
    """A list of :class:`SharingRow` that prints as a table."""

    @property
    def children(self) -> int:
        """int: Number of children."""
        return sum(bool(row.role == 'child') for row in self)

    @property
    def saved_parameters(self) -> int:
        """int: Parameters saved by all children together."""
        return sum(row.saved_parameters for row in self)

    def __str__(self) -> str:
        head = [
            'name', 'role', 'parent', 'shape', 'own parameters',
            'saved parameters'
        ]
        body = [[
            row.name, row.role, row.parent or '',
            'x'.join(map(str, row.shape)), f'{row.own_parameters:,}',
            f'{row.saved_parameters:,}'
        ] for row in self]
        own = sum(row.own_parameters for row in self)
        body.append([
            f'{len(self)} convolutions', f'{self.children} children', '', '',
            f'{own:,}', f'{self.saved_parameters:,}'
        ])
        widths = [max(map(len, column)) for column in zip(head, *body)]
        lines = [
            '  '.join(
                cell.rjust(width) if i > 3 else cell.ljust(width)
                for i, (cell, width) in enumerate(zip(row, widths))).rstrip()
            for row in [head, *body]
        ]
        rule = '-' * max(map(len, lines))
        return '\n'.join([lines[0], rule, *lines[1:-1], rule, lines[-1]])


def sharing_table(model: nn.Module) -> SharingTable:
    """List who shares with whom in a model.

    Args:
        model (nn.Module): A detector, a backbone or any other module.

    Returns:
        SharingTable: A row per KernelDNA convolution; printed, a table.

    Raises:
        ValueError: If a child in ``model`` has its parent outside of it.
    """
    convs = named_convs(model)
    names = {conv: name for name, conv in convs.items()}
    table = SharingTable()
    for name, conv in convs.items():
        saved = 0
        if conv.parent is not None and conv.adapter is not None:
            saved = -sum(p.numel() for p in conv.adapter.parameters())
            if conv.parent is not conv:
                saved += conv.parent.weight.numel()
        parent = None if conv.parent is None else names[conv.parent]
        table.append(
            SharingRow(name, conv.role, parent, conv.weight_shape,
                       sum(p.numel() for p in conv.parameters()), saved))
    return table
