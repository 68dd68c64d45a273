"""What a tool is given to write to."""
from __future__ import annotations
import os.path as osp

from .errors import CommandError


def check_output(path: str, *inputs: str) -> None:
    """Refuse to write a file over a folder or over what is read.

    Args:
        path (str): The file to write.
        *inputs (str): Files that are read.

    Raises:
        CommandError: If ``path`` is a folder or, by whatever name, an input.
    """
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
