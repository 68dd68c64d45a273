"""Whether the checkpoints that a run would load exist and are safe to read."""
from __future__ import annotations
import os
import os.path as osp
from typing import Any, Iterator

from mmengine.config import Config

from ..checkpoints.files import CheckpointError, load_file
from .errors import CommandError


def check_checkpoint(path: str, what: str) -> None:
    """End the run if a checkpoint does not exist, or is not safe to load.

    mmengine's own loader, which reads it for the runner, would unpickle
    whatever is in it.

    Args:
        path (str): A file, or an address such as ``https://...``.
        what (str): How the user has named it.
    """
    if '://' in path:
        return
    if not osp.isfile(path):
        raise CommandError(
            f'{path} is given as {what}, but there is no such file in '
            f'{os.getcwd()}: a run leaves its checkpoints in its work_dir, as '
            'epoch_*.pth or iter_*.pth')
    try:
        load_file(path)
    except CheckpointError as error:
        raise CommandError(
            f'{path} is given as {what}, but {error}') from error


def check_pretrained(cfg: Config) -> None:
    """End the run if a pretrained file does not exist, or is not safe to load.

    Args:
        cfg (Config): The config.
    """
    if isinstance(cfg.model.get('pretrained'), str):
        check_checkpoint(cfg.model.pretrained, 'model.pretrained')
    for path, init_cfg in _inits(cfg.model, 'model'):
        if isinstance(init_cfg.get('checkpoint'), str):
            check_checkpoint(init_cfg['checkpoint'], f'{path}.checkpoint')


def _inits(node: Any, path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every init_cfg in a config, and where it stands."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        if not isinstance(value, (dict, list, tuple)):
            continue
        inner = f'{path}.{key}'
        if isinstance(value, dict) and '.init_cfg' in inner:
            yield inner, value
        yield from _inits(value, inner)
