"""What a tool is given to write to."""
from __future__ import annotations
import os
import os.path as osp
import tempfile
from pathlib import Path
from typing import Any

from ..checkpoints.files import check_written, save_file
from .errors import CommandError


def check_output(path: str, *inputs: str) -> None:
    """Refuse to write a file over a folder, over what is read, or nowhere.

    Args:
        path (str): The file to write.
        *inputs (str): Files that are read.

    Raises:
        CommandError: If ``path`` is a folder or, by whatever name, an input,
            or its folder cannot be written to.
    """
    obstacle = obstacle_to(osp.dirname(osp.abspath(path)))
    if obstacle:
        raise CommandError(f'{path} is given to write to, but {obstacle}: '
                           'choose another place')
    if osp.isdir(path):
        raise CommandError(f'{path} is given to write to, but it is a folder: '
                           'give the name of a file')
    for given in inputs:
        if (osp.exists(path) and osp.exists(given)
                and osp.samefile(path, given)):
            raise CommandError(
                f'{path} is given to write to, but this would '
                f'replace {given}, which is read: choose another '
                'name')


def obstacle_to(folder: str) -> str | None:
    """Say why files cannot be written to a folder; nothing is written.

    Args:
        folder (str): The folder, which need not be there.

    Returns:
        str | None: The reason, or None.
    """
    there = osp.abspath(folder)
    while not osp.lexists(there):
        there = osp.dirname(there)
    if not osp.isdir(there):
        return f'{there} is no folder'
    if not os.access(there, os.W_OK | os.X_OK):
        return f'{there} cannot be written to'
    return None


def config_beside(checkpoint: str) -> str:
    """Name the config that is written beside a checkpoint.

    Args:
        checkpoint (str): The checkpoint to write.

    Returns:
        str: The same name in .py.

    Raises:
        CommandError: If the checkpoint's name does not end in .pth.
    """
    if not checkpoint.endswith('.pth'):
        raise CommandError(
            f'{checkpoint} is given to write to, but a name that ends in '
            '.pth is expected: the config gets the same name in .py')
    return osp.splitext(checkpoint)[0] + '.py'


def write_with_config(path: str, text: str, checkpoint: dict[str,
                                                             Any]) -> None:
    """Write a checkpoint and its config, both or none.

    Args:
        path (str): The checkpoint to write, see :func:`config_beside`.
        text (str): The config.
        checkpoint (dict): The checkpoint.

    Raises:
        CommandError: If they cannot be written.
        CheckpointError: If weights are NaN or infinite.
    """
    check_written(checkpoint, path)
    try:
        with tempfile.TemporaryDirectory(
                dir=osp.dirname(osp.abspath(path))) as folder:
            part = Path(folder)
            (part / 'config').write_text(text, encoding='utf-8')
            save_file(checkpoint, part / 'weights')
            os.replace(part / 'config', config_beside(path))
            os.replace(part / 'weights', path)
    except OSError as error:
        raise CommandError(f'{path} is given to write to, but it cannot be '
                           f'written: {error}') from error
