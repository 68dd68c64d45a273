"""What ends a command, and what is said of an error."""
from __future__ import annotations
import os.path as osp
import traceback


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
    return (f'{text} [{type(error).__name__} in '
            f'{osp.basename(frame.filename)}, line {frame.lineno}]')
