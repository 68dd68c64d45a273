"""Reading a checkpoint file without running what may be in it."""
from __future__ import annotations
import logging
import os
import os.path as osp
from contextlib import nullcontext
from pathlib import Path
from typing import IO, Any, Callable, ContextManager

import torch
from mmengine.logging import print_log
from torch import Tensor

from .errors import CheckpointError, Unreadable
from .formats import read
from .limits import check_finite, check_size
from .state import StandIn, build_state
from .writing import written_whole

# A path, or a file that is open.
Source = Any


def load_file(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint file; nothing in it is ever run.

    Of a training's state, what is no tensor and no plain value is left out:
    nothing but resuming needs it, and without it any torch reads what is made
    of the checkpoint. :func:`load_with_state` keeps it.

    Args:
        path (str | Path): The file.
        map_location (str | torch.device | dict | Callable, optional): Where
            the tensors go, as in :func:`torch.load`; None is the CPU as well.
            Defaults to 'cpu'.

    Returns:
        dict: The checkpoint, or a bare state dict.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged, is no checkpoint, has weights
            that are NaN or infinite, or holds objects other than tensors,
            plain values and mmengine's training state. None of them has been
            built then.
    """
    path = str(path)
    checkpoint = _read(path, map_location)
    left_out = _take_out(checkpoint)
    lost = [keys for keys in left_out if keys[0] != 'message_hub']
    if lost:
        message = (f'{path}: {", ".join(map(".".join, lost))}: only tensors '
                   'and plain values are read from a checkpoint, not NumPy\'s '
                   'or bytes')
        if 'state_dict' not in checkpoint or any(keys[0].endswith('state_dict')
                                                 for keys in lost):
            raise CheckpointError(message)
        print_log(
            f'{message}; it is left out',
            logger='current',
            level=logging.WARNING)
    return checkpoint


def load_with_state(source: Source,
                    map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint and the state of a training in it.

    Nothing in it is run. What mmengine resumes from is rebuilt exactly:
    ``HistoryBuffer``, NumPy's arrays and scalars, a scheduler's functions.

    Args:
        source (str | Path | IO): The file, by its path or opened.
        map_location (str | torch.device | dict | Callable, optional): See
            :func:`load_file`. Defaults to 'cpu'.

    Returns:
        dict: The checkpoint.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: See :func:`load_file`.
    """
    checkpoint = _read(source, map_location)
    try:
        return build_state(checkpoint)
    except Exception as error:
        raise CheckpointError(
            f'{_name(source)} is not read: it holds what no training of '
            f'mmengine leaves ({error}). If you trust where it comes from, '
            'save its state_dict alone with torch.save') from error


def save_file(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint as a whole or not at all.

    Args:
        checkpoint (dict): What to write.
        path (str): Where to. Its folder is made if there is none.

    Raises:
        CheckpointError: If weights are NaN or infinite.
    """
    check_written(checkpoint, path)
    with written_whole(path) as file:
        torch.save(checkpoint, file)


def check_written(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Refuse to write weights that could not be read again.

    Args:
        checkpoint (dict): What is to be written.
        path (str): Where to.

    Raises:
        CheckpointError: If weights are NaN or infinite.
    """
    try:
        check_finite(checkpoint)
    except Unreadable as error:
        raise CheckpointError(
            f'{path} is not written, since it {error}') from error


def _read(source: Source, map_location: Any) -> dict[str, Any]:
    """Read a checkpoint, with stand-ins for a training's state.

    Neither ``torch.load`` nor mmengine's loader does it: mmengine 0.10.7
    unpickles everything, 0.10.12 does too as soon as the safe way has failed,
    and for the safe way it allows ``getattr``, with which a file can run
    anything. Neither looks at the checksums of the file.
    """
    if not hasattr(source, 'read'):
        source = str(source)
        if not osp.isfile(source):
            raise FileNotFoundError(
                f'{source} is given as checkpoint, but there is no such file')
    with _opened(source) as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        try:
            checkpoint = read(file, _placer(map_location))
            check_size(checkpoint, size)
            if isinstance(checkpoint, dict):
                check_finite(checkpoint)
        except Unreadable as error:
            raise CheckpointError(f'{_name(source)} {error}') from error
        except Exception as error:
            reason = str(error).split('\n')[0] or repr(error)
            raise CheckpointError(
                f'{_name(source)} cannot be read: it is truncated or damaged '
                f'({reason}). Copy or download it again; it has {size:,} '
                'bytes') from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{_name(source)} is no checkpoint: it holds one object of type '
            f'{type(checkpoint).__name__}, a dict is expected')
    return checkpoint


def _placer(map_location: Any) -> Callable[[Tensor, str], Tensor]:
    """What moves memory to a device, as torch.load is told where."""

    def place(memory: Tensor, location: str) -> Tensor:
        device = map_location
        if isinstance(map_location, dict):
            device = map_location.get(location)
        elif callable(map_location):
            moved = map_location(memory.untyped_storage(), location)
            device = None if moved is None else moved.device
        return memory if device is None else memory.to(device)

    return place


def _opened(source: Source) -> ContextManager[IO[bytes]]:
    """The source, opened."""
    if hasattr(source, 'read'):
        return nullcontext(source)
    return open(source, 'rb')


def _name(source: Source) -> str:
    """What a message calls the source."""
    if hasattr(source, 'read'):
        return getattr(source, 'name', 'what was downloaded')
    return source


def _take_out(
    holder: dict[Any, Any], keys: tuple[str,
                                        ...] = ()) -> list[tuple[str, ...]]:
    """Delete what holds a stand-in, bytes or a function, of nested dicts.

    Returns:
        list[tuple[str]]: The keys that led there.
    """

    def holds(value: Any) -> bool:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple, set)):
            return any(map(holds, value))
        return isinstance(value, (StandIn, bytes)) or callable(value)

    found = []
    for key, value in list(holder.items()):
        path = (*keys, str(key))
        if isinstance(value, dict):
            found += _take_out(value, path)
        elif holds(value):
            del holder[key]
            found.append(path)
    return found
