"""A backbone, neck or head as a unit that shares kernels within itself."""
from __future__ import annotations
from collections import defaultdict

from mmengine.logging import print_log
from torch import nn

from .linking import Link, make_links, plan_links
from .pretrained.plain import accept_plain_weights
from .rivals.key_layouts import accept_key_layouts
from .rivals.rival import Rival
from .shared_weights import accept_shared_weights
from .sharing import named_convs, sharing_table


def link_kernels(module: nn.Module) -> list[Link]:
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

    From then on the module takes plain weights, see
    :func:`mmkdna.pretrained.plain.accept_plain_weights`, and has a state dict
    only while all parents of its children are in it: the kernel of one that
    something has replaced would be missing there.

    Args:
        module (nn.Module): A backbone, neck, head or any other module.

    Returns:
        list[Link]: What this call linked, so nothing at a second call.

    Raises:
        ValueError: If a child in ``module`` has its parent outside of it, a
            ``name_pattern`` matches nothing, or ``rd_ratio`` leaves a gate no
            channel. Nothing is linked then.
    """
    rivals: dict[type[Rival], dict[str, Rival]] = defaultdict(dict)
    for name, conv in module.named_modules():
        if isinstance(conv, Rival) and not conv.linked:
            rivals[type(conv)][name] = conv
    for kind, of_kind in rivals.items():
        kind.join(of_kind)
    if rivals:
        accept_key_layouts(module)
    convs = named_convs(module)
    unlinked = {n: conv for n, conv in convs.items() if not conv.linked}
    links = plan_links(unlinked)
    make_links(unlinked, links)
    if links:
        accept_plain_weights(module)
        deployed = [link for link in links if convs[link.child].options.deploy]
        if deployed:
            accept_shared_weights(module, deployed)
        _refuse_to_save_without_parents(module)
        table = sharing_table(module)
        print_log(
            f'KernelDNA: {type(module).__name__}: {table.children} of '
            f'{len(table)} convolutions derive their kernel, which saves '
            f'{table.saved_parameters:,} parameters',
            logger='current')
    return links


def _refuse_to_save_without_parents(unit: nn.Module) -> None:
    # A hook that runs before, which torch has as well, would be passed over by
    # mmengine when it saves a checkpoint.
    if _check_parents not in unit._state_dict_hooks.values():
        unit._register_state_dict_hook(_check_parents)


def _check_parents(unit: nn.Module, *_: object) -> None:
    """Raise an error if a child in a unit has its parent outside of it."""
    named_convs(unit)
