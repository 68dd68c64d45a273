"""The two formats of torch.save, read as a whole.

They have been the same since torch 1.6: an archive with a pickle and the
memory of each tensor, and, before, a pickle with all memory behind it.
"""
from __future__ import annotations
import io
import sys
import zipfile
from typing import IO, Any, Callable

import torch
from torch import Tensor

from .errors import Unreadable
from .unpickler import Unpickler, exactly

# The first number in a file written before torch 1.6, or by
# `_use_new_zipfile_serialization=False`, which mmdet's tools still ask for.
_OLD = torch.serialization.MAGIC_NUMBER.to_bytes(10, 'little')
# Says where the memory of a tensor goes, from where it was.
Place = Callable[[Tensor, str], Tensor]


def read(file: IO[bytes], place: Place) -> Any:
    """Read what torch.save has written; nothing in it is run.

    Args:
        file (IO): The file, at its start.
        place (Callable): Moves the memory of tensors, uint8, to where they
            are wanted, given the name of the device they were saved from.

    Returns:
        Any: The checkpoint, with stand-ins for a training's state.

    Raises:
        Unreadable: If it is something else, or not safe.
        Exception: Of any kind, if it is damaged.
    """
    head = file.read(64)
    file.seek(0)
    if head.startswith(b'PK\x03\x04'):
        return _read_archive(file, place)
    if head.startswith(b'\x80') and _OLD in head:
        return _read_old(io.BytesIO(file.read()), place)
    raise Unreadable(
        f'is no checkpoint: it has {file.seek(0, 2):,} bytes and starts with '
        f'{head[:16]!r}, a file written by torch.save is expected. If it was '
        'downloaded, look whether it is a page that says why it could not be')


def _read_archive(file: IO[bytes], place: Place) -> Any:
    """Read a zip file, whose every part has a checksum."""
    with zipfile.ZipFile(file) as archive:
        parts = archive.infolist()
        folder = parts[0].filename.partition('/')[0]
        names = [part.filename for part in parts]
        if f'{folder}/constants.pkl' in names:
            raise Unreadable(
                'is a TorchScript archive, which is a program; a checkpoint '
                'is expected: save the state_dict of the model it was made '
                'from')
        if len(set(names)) < len(names):
            raise ValueError('it has two parts of one name')
        # A part that is packed may be of any size.
        size = sum(part.file_size for part in parts)
        if size > file.seek(0, 2) or any(part.compress_type for part in parts):
            raise ValueError('its parts are larger than it')
        # Those that are not used as well, since what is in them may be lost.
        data = {part.filename: bytearray(archive.read(part)) for part in parts}
    order = data.get(f'{folder}/byteorder')
    if order is not None and order.decode() != sys.byteorder:
        raise Unreadable('was saved on a machine of another byte order')
    memories: dict[str, Tensor] = {}

    def storage(dtype: torch.dtype, key: str, location: str,
                number: int) -> Tensor:
        if key not in memories:
            raw = data[f'{folder}/data/{key}']
            memories[key] = place(_as_tensor(raw), location)
        if memories[key].numel() != number * dtype.itemsize:
            raise ValueError(f'the memory {key} is of another size')
        return memories[key]

    return Unpickler(io.BytesIO(data[f'{folder}/data.pkl']), storage).load()


def _read_old(file: io.BytesIO, place: Place) -> Any:
    """Read a file in the old format; it has no checksum."""
    for _ in ('magic number', 'version'):
        Unpickler(file).load()
    if not Unpickler(file).load()['little_endian']:
        raise Unreadable('was saved on a machine of another byte order')
    left = len(file.getbuffer())
    memories: dict[str, tuple[Tensor, torch.dtype]] = {}

    def storage(dtype: torch.dtype, key: str, location: str, number: int,
                view: Any) -> Tensor:
        nonlocal left
        if view is not None:
            raise Unreadable('has views in the format of torch 0.3')
        if key not in memories:
            left -= number * dtype.itemsize
            if number < 0 or left < 0:
                raise ValueError('its tensors are larger than it')
            raw = torch.zeros(number * dtype.itemsize, dtype=torch.uint8)
            memories[key] = place(raw, location), dtype
        if memories[key][0].numel() != number * dtype.itemsize:
            raise ValueError(f'the memory {key} is of another size')
        return memories[key][0]

    checkpoint = Unpickler(file, storage).load()
    keys = [exactly(str, key) for key in Unpickler(file).load()]
    if set(keys) != set(memories):
        raise ValueError('it names other tensors than it has')
    for key in keys:
        raw, dtype = memories[key]
        number = int.from_bytes(file.read(8), 'little')
        data = bytearray(file.read(raw.numel()))
        if number * dtype.itemsize != raw.numel() or len(data) < len(raw):
            raise EOFError('it ends within a tensor')
        raw.copy_(_as_tensor(data))
    return checkpoint


def _as_tensor(data: bytearray) -> Tensor:
    if not data:
        return torch.empty(0, dtype=torch.uint8)
    return torch.frombuffer(data, dtype=torch.uint8)
