"""State dicts of the authors' code and ours, each made into the other."""
from __future__ import annotations
from collections import OrderedDict
from typing import Any, Sequence

import torch
from torch import Tensor

from .networks import Network, networks
from .table import PREFIX, Entry

MODULE = 'module.'
# Of the keys that an error names; a wrong network could have hundreds.
MAX_NAMED = 20


def official_to_mmkdna(state_dict: dict[str, Tensor],
                       prefix: str = PREFIX) -> OrderedDict[str, Tensor]:
    """Translate a state dict of the authors' code.

    Args:
        state_dict (dict[str, Tensor]): Of one of the four networks the
            authors published; keys may start with ``module.``.
        prefix (str): What the keys of the backbone start with in the result,
            beside the classifier's ``head.fc``. With an empty one the result
            is the backbone's own state dict, without the classifier.
            Defaults to 'backbone.'.

    Returns:
        OrderedDict[str, Tensor]: The same values, which share no memory with
        those given.

    Raises:
        ValueError: If the network is none of the four, or a key is missing,
            surplus or of a wrong shape.
    """
    state_dict = strip_module(state_dict)
    network = recognize(state_dict, 'official', prefix)
    _check(state_dict, network, 'official')
    translated = OrderedDict()
    for entry in network.table:
        if not prefix and entry.mmkdna.startswith('head.'):
            continue
        value = state_dict[entry.official].detach()
        if entry.row is not None:
            value = value[entry.row]
        translated[entry.mmkdna] = value.reshape(entry.mmkdna_shape).clone()
    return translated


def mmkdna_to_official(state_dict: dict[str, Tensor],
                       prefix: str = PREFIX) -> OrderedDict[str, Tensor]:
    """Translate a classifier's state dict to that of the authors' code.

    The inverse of :func:`official_to_mmkdna`, to the bit.

    Args:
        state_dict (dict[str, Tensor]): Of a classifier from ``configs/resnet``
            or ``configs/mobilenet_v2``.
        prefix (str): What the keys of the backbone start with in
            ``state_dict``. Defaults to 'backbone.'.

    Returns:
        OrderedDict[str, Tensor]: The same values, which share no memory with
        those given, under the authors' keys without ``module.``.

    Raises:
        ValueError: If the network is none of the four, or a key is missing,
            surplus or of a wrong shape.
    """
    state_dict = strip_module(state_dict)
    network = recognize(state_dict, 'mmkdna', prefix)
    _check(state_dict, network, 'mmkdna')
    rows: OrderedDict[str, list[Entry]] = OrderedDict()
    for entry in network.table:
        rows.setdefault(entry.official, []).append(entry)
    translated = OrderedDict()
    for key, entries in rows.items():
        # The table lists the rows of a tensor in their order.
        values = [state_dict[entry.mmkdna].detach() for entry in entries]
        value = values[0] if entries[0].row is None else torch.stack(values)
        translated[key] = value.reshape(entries[0].official_shape).clone()
    return translated


def recognize(state_dict: dict[str, Tensor],
              side: str,
              prefix: str = PREFIX) -> Network:
    """Tell which network a state dict is of.

    Args:
        state_dict (dict[str, Tensor]): The state dict, without ``module.``.
        side (str): Whose keys it has, 'official' or 'mmkdna'.
        prefix (str): What our keys of the backbone start with. Defaults to
            'backbone.'.

    Returns:
        Network: The one with which it has most keys and shapes in common;
        others may be missing or surplus.

    Raises:
        ValueError: If it has less than half of each network's keys.
    """

    def in_common(network: Network) -> tuple[int, int]:
        shapes = network.shapes(side)
        common = set(shapes) & set(state_dict)
        # The two MobileNetV2 differ by nothing but shapes.
        return len(common), sum(
            _has_shape(state_dict[key], shapes[key]) for key in common)

    nearest = max(networks(prefix), key=in_common)
    common, expected = in_common(nearest)[0], len(nearest.shapes(side))
    if 2 * common < expected:
        raise ValueError(
            _describe_foreign(state_dict, side)
            or _describe_unknown(state_dict, side, nearest, common))
    return nearest


def strip_module(state_dict: dict[str, Tensor]) -> dict[str, Tensor]:
    """Take ``module.``, which DataParallel adds, from keys.

    Args:
        state_dict (dict[str, Tensor]): Any state dict.

    Returns:
        dict[str, Tensor]: The same without ``module.``.

    Raises:
        ValueError: If a key is there both with it and without.
    """
    stripped = {}
    for key, value in state_dict.items():
        name = str(key)
        name = name[len(MODULE):] if name.startswith(MODULE) else name
        if name in stripped:
            raise ValueError(
                f'{name} is there with and without {MODULE!r} before it, one '
                'of the two is expected: remove the other')
        stripped[name] = value
    return stripped


def _has_shape(value: Any, shape: tuple[int, ...]) -> bool:
    return isinstance(value, torch.Tensor) and value.shape == shape


def _describe_foreign(state_dict: dict[str, Tensor], side: str) -> str | None:
    """Say what state dict this is if it is of another kind altogether."""
    keys = list(state_dict)
    official = any('.static_filter_attn' in key for key in keys)
    mmkdna = any('.adapter.' in key for key in keys)
    if side == 'official' and mmkdna:
        return ('a checkpoint of mmkdna is given (it has keys with '
                '\'.adapter.\'), one of the authors\' code is expected: it '
                'needs no conversion, and mmkdna_to_official() or --reverse '
                'goes the other way')
    if side == 'mmkdna' and official:
        return ('a checkpoint of the authors\' code is given (it has keys '
                'with \'.static_filter_attn\'), one of mmkdna is expected: '
                'official_to_mmkdna(), or the tool without --reverse, '
                'converts it')
    if not official and not mmkdna and any(
            key.endswith(('conv1.weight', 'conv1.conv.weight',
                          'features.0.0.weight')) for key in keys):
        return (
            'an ordinary pretrained network is given (none of its '
            f'{len(keys)} keys belongs to an adapter), one with KernelDNA is '
            'expected: it needs no conversion, since backbone=dict('
            'init_cfg=dict(type=\'Pretrained\', checkpoint=FILE)) loads it '
            'directly, with prefix=\'backbone.\' beside it if its keys start '
            'with that')
    return None


def _describe_unknown(state_dict: dict[str, Tensor], side: str,
                      nearest: Network, common: int) -> str:
    """Say that a state dict has too little of every network."""
    shapes = nearest.shapes(side)
    names = ', '.join(network.name for network in networks())
    advice = ('its state dict as a whole' if side == 'official' else
              'its classifier\'s state dict as a whole, and the prefix of the '
              'backbone\'s keys')
    return (
        f'none of the networks {names} is recognized: at least half of '
        f'the keys of one are expected, such as {_shorten(list(shapes), 3)}; '
        f'the nearest is {nearest.name}, of whose {len(shapes)} keys '
        f'{common} are among the {len(state_dict)} given '
        f'({_shorten(list(state_dict), 3)}): give {advice}')


def _check(state_dict: dict[str, Tensor], network: Network, side: str) -> None:
    """Compare keys and shapes with those of a network."""
    shapes = network.shapes(side)
    missing = [
        f'{key} of shape {shape}' for key, shape in shapes.items()
        if key not in state_dict
    ]
    surplus = [key for key in state_dict if key not in shapes]
    wrong = []
    for key, shape in shapes.items():
        value = state_dict.get(key)
        if key in state_dict and not _has_shape(value, shape):
            given = (f'has shape {tuple(value.shape)}' if isinstance(
                value, torch.Tensor) else f'is a {type(value).__name__}')
            wrong.append(f'{key} {given}, a tensor of shape {shape} is '
                         'expected')
    faults = [
        f'{what}: {_shorten(keys)}' for what, keys in (
            ('missing', missing),
            ('surplus, so without a place in the network', surplus),
            ('wrong', wrong),
        ) if keys
    ]
    if not faults:
        return
    if side == 'official':
        whose = 'the authors\''
        advice = ('Give the state dict as their code writes it for the 1000 '
                  'classes of ImageNet, or correct these keys')
    else:
        whose = 'mmkdna\'s'
        advice = (f'Give the state dict of the classifier in {network.config} '
                  'as a whole, and the prefix of its backbone\'s keys')
    raise ValueError(
        f'the checkpoint is of {whose} {network.name}, but its keys are not '
        f'those expected; {"; ".join(faults)}. {advice}')


def _shorten(names: Sequence[str], most: int = MAX_NAMED) -> str:
    """Join names, and count those that are too many to be listed."""
    more = len(names) - most
    return ', '.join(names[:most]) + (f' and {more} more' if more > 0 else '')
