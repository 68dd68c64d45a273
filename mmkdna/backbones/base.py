"""What the backbones of all host libraries have in common."""

CONV_TYPES = ('KernelDNA', 'KernelDNAConv2d')


def type_path(kind):
    """The parts of a type's name.

    Args:
        kind (type | str): A class, its path, or its name in a registry with
            or without a scope.

    Returns:
        list[str]: The last one is the class's own name.
    """
    if isinstance(kind, type):
        kind = f'{kind.__module__}.{kind.__name__}'
    return str(kind).split('.')


def check_sharing_stages(stages, choices):
    """Check which stages shall share.

    Args:
        stages (Sequence[int]): Numbers of stages, as in ``layer3``.
        choices (Sequence[int]): The stages there are.

    Returns:
        tuple[int]: ``stages``.

    Raises:
        ValueError: If there is no such stage.
    """
    if (not isinstance(stages, (list, tuple))
            or any(stage not in choices for stage in stages)):
        raise ValueError(f'sharing_stages={stages!r} is given, a choice of '
                         f'{tuple(choices)} is expected, or () for the plain '
                         'network of the same topology')
    return tuple(stages)


def sharing_conv_cfg(conv_cfg, **defaults):
    """The conv_cfg of the stages that share.

    Args:
        conv_cfg (dict): What the user gave, of type 'KernelDNA'.
        **defaults: The network's own options; those of the user come first.

    Returns:
        dict: Both together.

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
