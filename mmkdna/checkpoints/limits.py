"""What is too much to be a checkpoint, and what is no weight."""
from __future__ import annotations
from typing import Any

import torch
from torch import Tensor

from .errors import Unreadable
from .state import StandIn

# Deeper than the state of any training, and far from Python's own limit.
_DEPTH = 100
# A list that is in a file once may be in a checkpoint several times, and so
# may a tensor; beyond so many, one is made to have us count for ever.
_TIMES = 16


def check_size(checkpoint: Any, size: int) -> None:
    """Refuse a checkpoint that stands for far more than its file has.

    A list of two that hold the same list of two, and so on, takes a few bytes
    a level, and twice the time for each one.

    Args:
        checkpoint (Any): What was read.
        size (int): The number of bytes it was read from.

    Raises:
        Unreadable: If it has more values, or is nested deeper, than any
            training leaves.
    """
    number = 0
    values = [(checkpoint, 0)]
    while values:
        value, depth = values.pop()
        number += 1
        inner: Any = ()
        if isinstance(value, dict):
            inner = (*value, *value.values())
        elif isinstance(value, (list, tuple, set)):
            inner = value
        elif isinstance(value, StandIn):
            inner = (*value.args, value.state)
        elif isinstance(value, Tensor):
            number += value.numel()
        elif isinstance(value, int) and value.bit_length() > 64:
            raise Unreadable('is no checkpoint: it has a whole number of '
                             f'{value.bit_length():,} bits')
        if number > _TIMES * size or depth > _DEPTH:
            raise Unreadable(
                f'is no checkpoint: its {size:,} bytes hold what is nested '
                f'more than {_DEPTH} times, or more than {_TIMES} values for '
                'each byte, so that it would take for ever to look through')
        values.extend((item, depth + 1) for item in inner)


def check_finite(checkpoint: dict[str, Any]) -> None:
    """Refuse weights that are NaN or infinite.

    Args:
        checkpoint (dict): A checkpoint, or a bare state dict.

    Raises:
        Unreadable: If there are any but in a mask, which may be infinite.
    """
    states = {
        f'{key}.': value
        for key, value in checkpoint.items()
        if str(key).endswith('state_dict') and isinstance(value, dict)
    }
    tensors = {
        f'{prefix}{key}': value
        for prefix, state in (states or {
            '': checkpoint
        }).items()
        for key, value in state.items() if isinstance(value, Tensor)
        and not str(key).endswith('mask') and not value.is_meta
    }
    wrong = [
        key for key, value in tensors.items()
        if not bool(torch.isfinite(value.detach()).all())
    ]
    if wrong:
        first = tensors[wrong[0]]
        count = int((~torch.isfinite(first.detach())).sum())
        raise Unreadable(
            f'has weights that are NaN or infinite: {wrong[0]} has {count:,} '
            f'of its {first.numel():,}, and {len(wrong)} of the '
            f'{len(tensors)} tensors have some. Nothing right comes of them: '
            'take a checkpoint from before its training went wrong, and train '
            'on with a lower learning rate or with clip_grad in the '
            'optim_wrapper')
