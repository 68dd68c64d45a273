"""What the backbones of all host libraries have in common."""
from __future__ import annotations
from typing import TYPE_CHECKING, Any, Sequence

if TYPE_CHECKING:
    # Hosts have no types, so anything may be asked of their classes. This one
    # stands for the class behind a mixin.
    HostClass = Any
else:
    HostClass = object

CONV_TYPES = ('KernelDNA', 'KernelDNAConv2d')


def type_path(kind: type | str | None) -> list[str]:
    """Take a type's name apart.

    Args:
        kind (type | str | None): A class, its path, or its name in a registry
            with or without a scope. None, of a config without a type, is like
            the name of no class.

    Returns:
        list[str]: The parts, of which the last is the class's own name.
    """
    if isinstance(kind, type):
        kind = f'{kind.__module__}.{kind.__name__}'
    return str(kind).split('.')


def check_sharing_stages(stages: Sequence[int],
                         choices: Sequence[int]) -> tuple[int, ...]:
    """Check which stages shall share.

    Args:
        stages (Sequence[int]): Numbers of stages, as in ``layer3``.
        choices (Sequence[int]): Numbers of the stages there are.

    Returns:
        tuple[int]: The stages that shall share.

    Raises:
        ValueError: If there is no such stage.
    """
    if (not isinstance(stages, (list, tuple))
            or any(stage not in choices for stage in stages)):
        raise ValueError(f'sharing_stages={stages!r} is given, a choice of '
                         f'{tuple(choices)} is expected, or () for the plain '
                         'network of the same topology')
    return tuple(stages)


def sharing_conv_cfg(conv_cfg: dict, **defaults: Any) -> dict:
    """Complete the conv_cfg of the stages that share.

    Args:
        conv_cfg (dict): What the user gave, of type 'KernelDNA'.
        **defaults: The network's own options; those of the user come first.

    Returns:
        dict: The options of both together.

    Raises:
        ValueError: If the type is another one.
    """
    if (not isinstance(conv_cfg, dict)
            or type_path(conv_cfg.get('type'))[-1] not in CONV_TYPES):
        raise ValueError(
            f'conv_cfg={conv_cfg!r} is given, '
            'dict(type=\'KernelDNA\', ...) is expected: it sets the options '
            'of the stages that share; without sharing, sharing_stages=() is '
            'the plain network')
    return dict(defaults, **conv_cfg)
