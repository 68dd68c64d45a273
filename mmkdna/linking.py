"""Which convolutions share, and the act of linking them."""
import re
import warnings
from collections import defaultdict
from dataclasses import fields, replace
from typing import NamedTuple

from .adapter import reduced_channels
from .hosts import SHORTCUTS
from .options import SharingOptions

# The options that decide who shares at all.
SELECTING = ('kernel_sizes', 'min_channels', 'name_pattern', 'stage_level')


class Link(NamedTuple):
    """A child and its parent, by their names in the linked module."""
    child: str
    parent: str


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


def make_links(convs, links):
    """Carry out a plan.

    Args:
        convs (dict[str, KernelDNAConv2d]): Plain convolutions by name.
        links (list[Link]): From :func:`plan_links`.

    Raises:
        ValueError: If ``rd_ratio`` leaves a gate no channel. Nothing is linked
            then.
    """
    for child, _ in links:
        conv = convs[child]
        if 'channel' in conv.options.modulation:
            reduced_channels(conv.in_channels, conv.out_channels,
                             conv.options.rd_ratio)
    for child, parent in links:
        convs[child].derive_from(convs[parent], parent)
        if convs[child].options.deploy:
            convs[child].switch_to_deploy()
    for conv in convs.values():
        conv.linked = True
