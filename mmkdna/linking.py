"""Which convolutions share, and the act of linking them."""
from __future__ import annotations
import re
import warnings
from collections import defaultdict
from dataclasses import fields, replace
from itertools import combinations
from typing import Any, Hashable, Mapping, NamedTuple

from .adapter import Adapter
from .conv import KernelDNAConv2d
from .options import LayerChoice, SharingOptions

# The options that decide who shares at all.
SELECTING = ('kernel_sizes', 'min_channels', 'name_pattern', 'stage_level')


class Link(NamedTuple):
    """A child and its parent, by their names in the linked module."""
    child: str
    parent: str


def plan_links(convs: dict[str, KernelDNAConv2d]) -> list[Link]:
    """Decide who becomes a child of whom; change nothing.

    Args:
        convs (dict[str, KernelDNAConv2d]): Plain convolutions by name, in
            forward order.

    Returns:
        list[Link]: The links, in the order of the kin's first convolutions.

    Raises:
        ValueError: If a ``name_pattern`` matches nothing, ``links`` name what
            cannot share, or ``ungated`` what is no child.
    """
    options = {name: conv.options for name, conv in convs.items()}
    check_patterns(options)
    links = _plan(convs, options)
    _check_ungated(options, links)
    if convs and not links:
        _warn_that_nothing_shares(convs, options)
    return links


def make_links(convs: dict[str, KernelDNAConv2d], links: list[Link]) -> None:
    """Carry out a plan.

    Args:
        convs (dict[str, KernelDNAConv2d]): Plain convolutions by name.
        links (list[Link]): From :func:`plan_links`.

    Raises:
        ValueError: If a gate cannot be made with the options of its
            convolution. Nothing is linked then.
    """
    adapters: dict[str, Adapter] = {}
    for child, parent in links:
        conv = convs[child]
        conv.check_parent(convs[parent], parent)
        if child in conv.options.ungated:
            # What it is from now on, wherever its adapter is made again.
            conv.options = conv.options.without_gate()
        try:
            adapters[child] = conv.make_adapter()
        except ValueError as error:
            raise ValueError(f'{child}: {error}') from error
    for child, parent in links:
        convs[child].derive_from(convs[parent], parent, adapters[child])
        if convs[child].options.deploy:
            convs[child].switch_to_deploy()
    for conv in convs.values():
        conv.linked = True


def _plan(convs: dict[str, KernelDNAConv2d],
          options: dict[str, SharingOptions]) -> list[Link]:
    kin: dict[Hashable, list[str]] = defaultdict(list)
    explicit = {
        o.key(): o.links
        for o in options.values() if o.links is not None
    }
    links = [
        link for given in explicit.values()
        for link in _given_links(convs, options, given)
    ]
    for name, conv in convs.items():
        if options[name].links is None and options[name].take(name, conv):
            kin[_kinship(name, conv, options[name])].append(name)
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


def _given_links(convs: dict[str, KernelDNAConv2d],
                 options: dict[str, SharingOptions],
                 given: dict[str, str]) -> list[Link]:
    """Find the links that are given by names and patterns.

    Raises:
        ValueError: If one of them names what cannot share.
    """
    said = f'KernelDNA: links={given!r} is given, but'
    names = [name for name, o in options.items() if o.links is not None]
    entries: dict[str, str] = {}
    parents: dict[str, str] = {}
    for entry, parent in given.items():
        try:
            found = _matched(entry, parent, names)
        except (re.error, IndexError) as error:
            raise ValueError(
                f'{said} {parent!r} cannot be read as the parent of {entry!r}:'
                f' {error}; \\1 stands for what the first group of the '
                'pattern matches') from error
        for name in (*(found or [entry]), *(found.values() or [parent])):
            if name not in names:
                raise ValueError(
                    f'{said} {name} is none of the {len(names)} convolutions '
                    f'with this conv_cfg: {", ".join(names[:5])}'
                    f'{", ..." * (len(names) > 5)}: names are counted from '
                    'the backbone, neck or head, and patterns match whole '
                    'names')
        for child in found:
            if child in entries:
                raise ValueError(
                    f'{said} {child} is a child by {entries[child]!r} and by '
                    f'{entry!r}: one entry for each is expected')
            entries[child] = entry
        parents.update(found)
    for child, entry in entries.items():
        if child in parents.values():
            raise ValueError(
                f'{said} {child}, a child by {entry!r}, is a parent, too: '
                'give a pattern that does not match it')
    links = [Link(*pair) for pair in parents.items()]
    for link in links:
        for name in link:
            if 'weight' not in convs[name]._parameters:
                raise ValueError(
                    f'{said} the kernel of {name} is computed at each '
                    'forward, by spectral norm or the like: leave it out')
        ours, theirs = (convs[name] for name in link)
        if (ours.weight_shape, ours.groups) != (theirs.weight_shape,
                                                theirs.groups):
            raise ValueError(
                f'{said} {link.child} has a kernel of shape '
                f'{ours.weight_shape} and groups={ours.groups}, and '
                f'{link.parent} of {theirs.weight_shape} and groups='
                f'{theirs.groups}: the same is expected')
    return links


def _matched(entry: str, parent: str, names: list[str]) -> dict[str, str]:
    """Find what is meant by an entry: children and their parents.

    Raises:
        re.error: If the parent refers to no group of the pattern.
        IndexError: If it refers to no group of that name.
    """
    # Of a name that is misspelt, a dot matches no other character.
    if entry in names or re.fullmatch(r'[\w.-]*', entry):
        return {name: parent for name in names if name == entry}
    matches = (re.fullmatch(entry, name) for name in names)
    return {match[0]: match.expand(parent) for match in matches if match}


def _check_ungated(options: dict[str, SharingOptions],
                   links: list[Link]) -> None:
    """Check that what shall have no gate is a child.

    Raises:
        ValueError: If it is none.
    """
    children = {link.child for link in links}
    for option in options.values():
        for name in option.ungated:
            if name not in children:
                raise ValueError(
                    f'KernelDNA: ungated={option.ungated!r} is given, but '
                    f'{name} is no child here: those are '
                    f'{", ".join(sorted(children)[:5]) or "none"}'
                    f'{", ..." * (len(children) > 5)}')


def _kinship(name: str, conv: KernelDNAConv2d,
             options: SharingOptions) -> Hashable:
    """Equal for kin: stage, shape and options."""
    return (stage_of(name,
                     options.stage_level), conv.weight_shape, conv.groups,
            options.key())


def stage_of(name: str, level: int) -> tuple[str, ...]:
    """Tell the stage of a convolution.

    Args:
        name (str): Its name, counted from the backbone, neck or head.
        level (int): How many leading parts of the name make the stage.

    Returns:
        tuple[str]: These parts, without the convolution's own name.
    """
    return tuple(name.split('.')[:-1][:level])


def check_patterns(options: Mapping[str, LayerChoice]) -> None:
    """Check that every ``name_pattern`` matches something.

    Args:
        options (Mapping[str, LayerChoice]): Options by name of the
            convolution in its backbone, neck or head.

    Raises:
        ValueError: If a pattern matches no name.
    """
    for pattern in {o.name_pattern for o in options.values()}:
        if pattern is None:
            continue
        names = [n for n, o in options.items() if o.name_pattern == pattern]
        if not any(re.search(pattern, name) for name in names):
            shown = ', '.join(names[:5]) + (', ...' if len(names) > 5 else '')
            raise ValueError(
                f'{options[names[0]].conv_type}: name_pattern={pattern!r} is '
                f'given, but it matches none of the {len(names)} '
                f'convolutions with this conv_cfg: {shown}: correct the '
                'pattern, or set conv_cfg only where it shall match')


def _warn_that_nothing_shares(convs: dict[str, KernelDNAConv2d],
                              options: dict[str, SharingOptions]) -> None:
    """Name the options with which something would share, if there are any."""

    def shares_with(changes: dict[str, Any]) -> bool:
        return bool(
            _plan(convs, {
                conv: replace(o, **changes)
                for conv, o in options.items()
            }))

    def fewest(changes: dict[str, Any]) -> list[tuple[str, ...]]:
        """The smallest sets of changes with which something shares."""
        for size in range(1, len(changes) + 1):
            enough = [
                names for names in combinations(changes, size)
                if shares_with({name: changes[name]
                                for name in names})
            ]
            if enough:
                return enough
        return []

    default = {f.name: f.default for f in fields(SharingOptions)}
    given = {
        name: default[name]
        for name in SELECTING if any(
            getattr(o, name) != default[name] for o in options.values())
    }
    nothing_shares = (f'KernelDNA: of {len(convs)} convolutions none shares '
                      'its kernel')
    first = next(iter(options.values()))
    blamed = {name for names in fewest(given) for name in names}
    said = ', '.join(f'{name}={getattr(first, name)!r}' for name in given
                     if name in blamed)
    if said:
        warnings.warn(f'{nothing_shares}, because of {said}: all of them run '
                      'as plain convolutions')
        return
    sizes = {conv.kernel_size for conv in convs.values()}
    would = dict(
        kernel_sizes=tuple(sorted(sizes)), grouped=True, shortcuts=True)
    said = ' or '.join(' with '.join(f'{name}={_short(would[name])}'
                                     for name in names)
                       for names in fewest(would))
    if said:
        warnings.warn(
            f'{nothing_shares}: only dense convolutions larger than 1x1 do, '
            f'unless options say otherwise, and no two of a stage have one '
            f'shape here. All of them run as plain convolutions; in conv_cfg '
            f'{said} would let some share')


def _short(value: Any) -> Any:
    """Kernel sizes as a user writes them."""
    if not isinstance(value, tuple):
        return value
    return tuple(height if height == width else (height, width)
                 for height, width in value)
