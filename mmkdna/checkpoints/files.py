"""Reading a checkpoint file without running what may be in it."""
from __future__ import annotations
import logging
import os
import os.path as osp
import pickle
import tarfile
from collections import OrderedDict
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import IO, Any, Callable, ContextManager

import torch
from mmengine.logging import print_log

from .state import CONSTRUCTORS, StandIn, build_state
from .writing import written_whole

# The first number in a file written before torch 1.6, or by
# `_use_new_zipfile_serialization=False`, which mmdet's tools still ask for.
_OLD_FORMAT = torch.serialization.MAGIC_NUMBER.to_bytes(10, 'little')
# A path, or a file that is open.
Source = Any


class CheckpointError(ValueError):
    """A checkpoint that is not there, damaged, none, or not safe to read."""


def load_file(path: str | Path, map_location: Any = 'cpu') -> dict[str, Any]:
    """Read a checkpoint file; nothing in it is ever run.

    Of a training's state, what is no tensor and no plain value is left out:
    nothing but resuming needs it, and without it any torch reads what is made
    of the checkpoint. :func:`load_with_state` keeps it.

    Args:
        path (str | Path): The file.
        map_location (str | torch.device): Where the tensors go. Defaults to
            'cpu'.

    Returns:
        dict: The checkpoint, or a bare state dict.

    Raises:
        FileNotFoundError: If there is no such file.
        CheckpointError: If the file is damaged, is no checkpoint, or holds
            objects other than tensors, plain values and mmengine's training
            state. None of them has been built then.
    """
    path = str(path)
    checkpoint = _read(path, map_location)
    try:
        left_out = _take_out(checkpoint, StandIn)
    except RecursionError as error:
        raise _damaged(path, error) from error
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
        map_location (str | torch.device): Where the tensors go. Defaults to
            'cpu'.

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


def _read(source: Source, map_location: Any) -> dict[str, Any]:
    """Read a checkpoint, with stand-ins for a training's state.

    The file is read by ``torch.load(weights_only=True)``. What stands in the
    way of just calling that, found in torch 2.1.2 and 2.11 with mmengine
    0.10.7 and 0.10.12:

    - A checkpoint saved by mmengine's Runner is refused by it, since its
      ``message_hub`` holds ``HistoryBuffer`` objects, which take ``getattr``
      and NumPy's constructors to rebuild, and torch 2.1 cannot be told to make
      exceptions. So such a file is read a second time, with inert stand-ins
      for the objects of these few names.
    - torch 2.1.2 hands a TorchScript archive to ``torch.jit.load``, and
      unpacks files in the tar format of 2016, whatever ``weights_only`` says.
      Neither is a checkpoint, so both are refused before.
    - mmengine's own loader is no help: 0.10.7 unpickles everything, and
      0.10.12 does too as soon as the safe way has failed.
    """
    if not hasattr(source, 'read'):
        source = str(source)
        if not osp.isfile(source):
            raise FileNotFoundError(
                f'{source} is given as checkpoint, but there is no such file')
    _check_format(source)
    try:
        checkpoint = _load(source, map_location, weights_only=True)
    except pickle.UnpicklingError:
        checkpoint = _load_with_stand_ins(source, map_location)
    except Exception as error:
        # What else is raised for a damaged file differs between versions.
        raise _damaged(source, error) from error
    if not isinstance(checkpoint, dict):
        raise CheckpointError(
            f'{_name(source)} is no checkpoint: it holds one object of type '
            f'{type(checkpoint).__name__}, a dict is expected')
    return checkpoint


def _load(source: Source, map_location: Any, **options: Any) -> Any:
    """Call torch.load, by the name that safe_loading.py leaves alone."""
    if hasattr(source, 'read'):
        source.seek(0)
    return torch.serialization.load(
        source, map_location=map_location, **options)


def save_file(checkpoint: dict[str, Any], path: str | Path) -> None:
    """Write a checkpoint as a whole or not at all.

    Args:
        checkpoint (dict): What to write.
        path (str): Where to. Its folder is made if there is none.
    """
    with written_whole(path) as file:
        torch.save(checkpoint, file)


def _opened(source: Source) -> ContextManager[IO[bytes]]:
    """The source from its start, opened."""
    if hasattr(source, 'read'):
        source.seek(0)
        return nullcontext(source)
    return open(source, 'rb')


def _name(source: Source) -> str:
    """What a message calls the source."""
    if hasattr(source, 'read'):
        return getattr(source, 'name', 'what was downloaded')
    return source


def _size(source: Source) -> int:
    with _opened(source) as file:
        return file.seek(0, os.SEEK_END)


def _check_format(source: Source) -> None:
    """Refuse what torch.save has not written, by the first bytes."""
    with _opened(source) as file:
        head = file.read(64)
        file.seek(0)
        if head.startswith(b'PK\x03\x04'):
            try:
                # Not zipfile: torch.load is to find what is found here.
                reader = torch._C.PyTorchFileReader(file)
                records = reader.get_all_records()
            except (OSError, RuntimeError, ValueError) as error:
                # Of an open file that is cut, a seek before its start.
                raise _damaged(source, error) from error
            if 'constants.pkl' in records:
                raise CheckpointError(
                    f'{_name(source)} is a TorchScript archive, which is a '
                    'program; a checkpoint is expected: save the state_dict '
                    'of the model it was made from')
        elif _OLD_FORMAT not in head or _is_tar(file):
            raise CheckpointError(
                f'{_name(source)} is no checkpoint: it has '
                f'{_size(source):,} bytes and starts with {head[:16]!r}, a '
                'file written by torch.save is expected. If it was '
                'downloaded, look whether it is a page that says why it could '
                'not be')


def _is_tar(file: IO[bytes]) -> bool:
    try:
        tarfile.open(fileobj=file, mode='r:').close()
    except tarfile.TarError:
        return False
    return True


def _damaged(source: Source, error: Exception) -> CheckpointError:
    # torch adds advice to the first sentence, such as to read it unsafely.
    reason = str(error).split('\n')[0].split('. ')[0] or repr(error)
    return CheckpointError(
        f'{_name(source)} cannot be read: it is truncated or damaged '
        f'({reason}). Copy or download it again; it has {_size(source):,} '
        'bytes')


class _Refused(Exception):
    """The name of an object that is not rebuilt."""


def _load_with_stand_ins(source: Source, map_location: Any) -> Any:
    """Read a checkpoint that mmengine's Runner has saved.

    The unpickler finds nothing but what ``known`` has, and that cannot be made
    to do anything: plain functions shield those of torch from assignments, to
    which a pickle is entitled.
    """

    def shield(function: Callable[..., Any]) -> Callable[..., Any]:
        return lambda *args: function(*args)

    known: dict[str, Any] = dict(CONSTRUCTORS)
    known['collections.OrderedDict'] = OrderedDict
    known['torch.Size'] = torch.Size
    # The milestones of a MultiStepLR, in which it only looks steps up.
    known['collections.Counter'] = lambda *args: dict(*args)
    # torch 2.1 refuses sets, which are as plain as lists.
    known['__builtin__.set'] = known['builtins.set'] = set
    for name in ('_rebuild_tensor', '_rebuild_tensor_v2',
                 '_rebuild_parameter'):
        known[f'torch._utils.{name}'] = shield(getattr(torch._utils, name))

    # A tensor with attributes, as FSDP leaves them, without the attributes.
    known['torch._tensor._rebuild_from_type_v2'] = (
        lambda rebuild, kind, args, attributes: rebuild(*args))
    known['torch.Tensor'] = shield(StandIn)

    class Unpickler(pickle.Unpickler):

        def find_class(self, module: str, name: str) -> Any:
            if f'{module}.{name}' not in known:
                raise _Refused(f'{module}.{name}')
            return known[f'{module}.{name}']

    reader = SimpleNamespace(
        __name__=__name__,
        Unpickler=Unpickler,
        load=lambda file, **kwargs: Unpickler(file, **kwargs).load())
    try:
        return _load(
            source, map_location, pickle_module=reader, weights_only=False)
    except _Refused as error:
        raise CheckpointError(
            f'{_name(source)} is not read: it asks for {error}, which could '
            'run any code, and none of it has been run. Tensors and plain '
            'values are expected: if you trust where it comes from, save its '
            'state_dict alone with torch.save') from error
    except Exception as error:
        if os.getenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD'):
            raise CheckpointError(
                f'{_name(source)} holds more than tensors and plain values, '
                'and TORCH_FORCE_WEIGHTS_ONLY_LOAD is set: unset it to read a '
                'checkpoint of mmengine\'s Runner, none of whose objects is '
                'built here either') from error
        raise _damaged(source, error) from error


def _take_out(holder: dict[Any, Any], kind: type,
              keys: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Delete what holds an object of a kind, or a function, of nested dicts.

    Returns:
        list[tuple[str]]: The keys that led there.
    """

    def holds(value: Any) -> bool:
        if isinstance(value, dict):
            value = list(value.values())
        if isinstance(value, (list, tuple, set)):
            return any(map(holds, value))
        return isinstance(value, kind) or callable(value)

    found = []
    for key, value in list(holder.items()):
        path = (*keys, str(key))
        if isinstance(value, dict):
            found += _take_out(value, kind, path)
        elif holds(value):
            del holder[key]
            found.append(path)
    return found
