"""Whether the checkpoints that a run would load exist and are safe to read."""
from __future__ import annotations
import os
import os.path as osp
from typing import Any, Iterator

from mmengine.config import Config

from ..checkpoints.files import CheckpointError, load_file
from .errors import CommandError


def check_checkpoint(path: str, what: str, resume: bool = False) -> None:
    """End the run if a checkpoint does not exist, or is not safe to load.

    It is read once more for the runner, as safely, but then there is a
    work_dir, and a run that has begun.

    Args:
        path (str): A file, or an address such as ``https://...``.
        what (str): How the user has named it.
        resume (bool): Whether a training is to go on from it. Defaults to
            False.
    """
    if not isinstance(path, str):
        raise CommandError(f'{path!r} is given as {what}, but the path of a '
                           'checkpoint is expected')
    if '://' in path:
        return
    if not osp.isfile(path):
        raise CommandError(
            f'{path} is given as {what}, but there is no such file in '
            f'{os.getcwd()}: a run leaves its checkpoints in its work_dir, as '
            'epoch_*.pth or iter_*.pth')
    try:
        checkpoint = load_file(path)
    except CheckpointError as error:
        raise CommandError(
            f'{path} is given as {what}, but {error}') from error
    meta = checkpoint.get('meta')
    if resume and not (isinstance(meta, dict) and all(
            isinstance(meta.get(key), int) for key in ('epoch', 'iter'))
                       and isinstance(checkpoint.get('message_hub'), dict)
                       and isinstance(checkpoint.get('state_dict'), dict)):
        raise CommandError(
            f'{path} is given as {what}, but it has no state of a training, '
            'which would go on from it: a checkpoint that a training has left '
            'is expected, with its message_hub and meta. To start from its '
            f'weights, give --cfg-options load_from={path} instead')


def check_pretrained(cfg: Config) -> None:
    """End the run if a pretrained file does not exist, or is not safe to load.

    Args:
        cfg (Config): The config.
    """
    for key, path in _pretrained(cfg.model, 'model'):
        check_checkpoint(path, key)


def _pretrained(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """Every checkpoint that a model is told to start from, and where."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        inner = f'{path}.{key}'
        if isinstance(value, (dict, list, tuple)):
            yield from _pretrained(value, inner)
        # The one is of init_cfg, the other what it was called before.
        elif isinstance(value,
                        str) and (key == 'checkpoint' and '.init_cfg' in path
                                  or key == 'pretrained'):
            yield inner, value
