"""Which convolutions share, and the act of linking them."""
import re
import warnings
from collections import defaultdict
from dataclasses import fields, replace
from typing import NamedTuple, Optional, Tuple

from mmengine.logging import print_log

from .adapter import reduced_channels
from .checkpoints.plain import accept_plain_weights
from .conv import KernelDNAConv2d
from .options import SharingOptions

# Parts of a module's name that mark the shortcut of a residual block.
SHORTCUTS = ('downsample', 'shortcut')
# The options that decide who shares at all.
SELECTING = ('kernel_sizes', 'min_channels', 'name_pattern', 'stage_level')


class Link(NamedTuple):
    """A child and its parent, by their names in the linked module."""
    child: str
    parent: str


def link_kernels(module):
    """Make children and parents of the KernelDNA convolutions in a module.

    Models built through a registry of an OpenMMLab library are linked already:
    each backbone, neck and head within itself. Call this on a model built by
    hand, with the module inside which kernels may be shared, before an
    optimizer, DDP or EMA sees it.

    Kin are convolutions of one kernel shape in the same stage, a direct child
    of ``module``; those that are direct children themselves are one stage
    together. Among kin, in the order of their names in ``module``, a
    child stands right before its parent; where their number is odd, the first
    parent serves two.

    Args:
        module (nn.Module): A backbone, neck, head or any other module.

    Returns:
        list[Link]: What this call linked, so nothing at a second call.

    Raises:
        ValueError: If a child in ``module`` has its parent outside of it, a
            ``name_pattern`` matches nothing, or ``rd_ratio`` leaves a gate no
            channel. Nothing is linked then.
    """
    convs = named_convs(module)
    unlinked = {n: conv for n, conv in convs.items() if not conv.linked}
    links = plan_links(unlinked)
    for child, _ in links:
        conv = convs[child]
        if 'channel' in conv.options.modulation:
            reduced_channels(conv.in_channels, conv.out_channels,
                             conv.options.rd_ratio)
    for child, parent in links:
        convs[child].derive_from(convs[parent], parent)
        if convs[child].options.deploy:
            convs[child].switch_to_deploy()
    for conv in unlinked.values():
        conv.linked = True
    if links:
        accept_plain_weights(module)
        table = sharing_table(module)
        print_log(
            f'KernelDNA: {type(module).__name__}: {table.children} of '
            f'{len(table)} convolutions derive their kernel, which saves '
            f'{table.saved_parameters:,} parameters',
            logger='current')
    return links


def named_convs(module):
    """The KernelDNA convolutions of a module.

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
                'neck or head')
    return convs


def plan_links(convs):
    """Decide who becomes a child of whom; changes nothing.

    Args:
        convs (dict[str, KernelDNAConv2d]): Plain convolutions by name, in
            forward order.

    Returns:
        list[Link]: The links, in the order of the kin's first convolutions.

    Raises:
        ValueError: If a ``name_pattern`` matches nothing.
    """
    options = {name: conv.options for name, conv in convs.items()}
    _check_patterns(options)
    links = _plan(convs, options)
    if convs and not links:
        _warn_of_options(convs, options)
    return links


def _plan(convs, options):
    kin = defaultdict(list)
    for name, conv in convs.items():
        if _takes_part(name, conv, options[name]):
            kin[_kinship(name, conv, options[name])].append(name)
    links = []
    for names in kin.values():
        if len(names) < 2:
            continue
        if not options[names[0]].share:
            links.extend(Link(name, name) for name in names)
            continue
        per_parent = options[names[0]].children_per_parent or len(names) - 1
        families = max(len(names) // (per_parent + 1), 1)
        # The first family takes what is left over.
        end = len(names) - (families - 1) * (per_parent + 1)
        start = 0
        while start < len(names):
            *children, parent = names[start:end]
            links.extend(Link(child, parent) for child in children)
            start, end = end, end + per_parent + 1
    return links


def _takes_part(name, conv, options):
    """Whether the options let a convolution share, kin or no kin."""
    if conv.groups > 1 and not options.grouped:
        return False
    # Spectral norm and the like compute the kernel at each forward.
    if 'weight' not in conv._parameters:
        return False
    if min(conv.in_channels, conv.out_channels) < options.min_channels:
        return False
    if (options.name_pattern is not None
            and not re.search(options.name_pattern, name)):
        return False
    if options.kernel_sizes is None:
        return max(conv.kernel_size) > 1
    return conv.kernel_size in options.kernel_sizes


def _kinship(name, conv, options):
    """Equal for kin: stage, path through the block, shape and options."""
    parts = name.split('.')[:-1]
    stage = tuple(parts[:options.stage_level])
    on_shortcut = (not options.shortcuts
                   and any(part in SHORTCUTS for part in parts))
    return stage, on_shortcut, conv.weight_shape, conv.groups, repr(options)


def _check_patterns(options):
    for pattern in {o.name_pattern for o in options.values()} - {None}:
        names = [n for n, o in options.items() if o.name_pattern == pattern]
        if not any(re.search(pattern, name) for name in names):
            shown = ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
            raise ValueError(
                f'KernelDNA: name_pattern={pattern!r} is given, but it '
                f'matches none of the {len(names)} convolutions with this '
                f'conv_cfg: {shown}: correct the pattern, or set conv_cfg '
                'only where it shall match')


def _warn_of_options(convs, options):
    """Name the options without which something would share."""

    def shares_without(names):
        return _plan(
            convs, {
                conv: replace(o, **{n: default[n]
                                    for n in names})
                for conv, o in options.items()
            })

    default = {f.name: f.default for f in fields(SharingOptions)}
    given = [
        name for name in SELECTING if any(
            getattr(o, name) != default[name] for o in options.values())
    ]
    guilty = [name for name in given if shares_without([name])]
    if not guilty and shares_without(given):
        guilty = given
    if guilty:
        first = next(iter(options.values()))
        said = ', '.join(f'{name}={getattr(first, name)!r}' for name in guilty)
        warnings.warn(
            f'KernelDNA: of {len(convs)} convolutions none shares its kernel, '
            f'because of {said}: all of them run as plain convolutions')


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


class SharingTable(list):
    """A list of :class:`SharingRow` that prints as a table."""

    @property
    def children(self):
        """int: Number of children."""
        return sum(row.role == 'child' for row in self)

    @property
    def saved_parameters(self):
        """int: Parameters saved by all children together."""
        return sum(row.saved_parameters for row in self)

    def __str__(self):
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


def sharing_table(model):
    """Who shares with whom in a model.

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
        if conv.role == 'child':
            saved = -sum(p.numel() for p in conv.adapter.parameters())
            if conv.parent is not conv:
                saved += conv.parent.weight.numel()
        table.append(
            SharingRow(name, conv.role, names.get(conv.parent),
                       conv.weight_shape,
                       sum(p.numel() for p in conv.parameters()), saved))
    return table
