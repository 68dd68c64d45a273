"""What ends a command, and what is said of an error."""
from __future__ import annotations
import errno
import os.path as osp
import traceback

# What a system says when there is no room for a file.
_NO_ROOM = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)


class CommandError(ValueError):
    """What a command was given and cannot do, in one paragraph."""


def describe(error: BaseException) -> str:
    """Say what an exception says, in one line.

    Args:
        error (BaseException): The exception.

    Returns:
        str: What it says, and where it was raised first.
    """
    text = str(error.args[0]) if len(error.args) == 1 else str(error)
    first = error
    while first.__context__ is not None:
        first = first.__context__
    frame = traceback.extract_tb(first.__traceback__)[-1]
    return (f'{" ".join(text.split())} [{type(error).__name__} in '
            f'{osp.basename(frame.filename)}, line {frame.lineno}]')


def lack_of_room(error: BaseException | None) -> OSError | None:
    """Find what says that there was no room for a file.

    Args:
        error (BaseException, optional): An exception.

    Returns:
        OSError | None: It, or what it was raised for, or None.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_ROOM:
            return error
        error = error.__context__
    return None
