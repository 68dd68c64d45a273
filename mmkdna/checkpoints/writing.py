"""Files that are written as a whole or not at all."""
from __future__ import annotations
import glob
import os
import os.path as osp
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Iterator


@contextmanager
def written_whole(path: str | Path,
                  mode: str = 'wb',
                  encoding: str | None = None) -> Iterator[IO]:
    """Open a file that gets its name only once it is complete.

    It is written beside its place and moved there at the end, so that neither
    an error nor a kill nor a machine that goes down leaves half of it; what
    had the name before stays until then.

    Args:
        path (str | Path): Where it belongs. Its folder is made if there is
            none.
        mode (str): 'wb' or 'w'. Defaults to 'wb'.
        encoding (str, optional): Of a text. Defaults to None, the system's.

    Yields:
        IO: The file to write to.

    Raises:
        OSError: With the path, if it cannot be written.
    """
    path = osp.realpath(path)
    if osp.exists(path) and not osp.isfile(path):
        with open(path, mode, encoding=encoding) as file:
            yield file
        return
    beside = _unfinished_name(path, os.getpid())
    try:
        os.makedirs(osp.dirname(beside), exist_ok=True)
        with open(beside, mode, encoding=encoding) as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, path)
    except OSError as error:
        # Without a number, the text would be lost beside a name.
        if error.errno is not None:
            error.filename = path
        raise
    finally:
        if osp.exists(beside):
            os.remove(beside)


def delete_unfinished(folder: str) -> None:
    """Delete what killed processes have left of files they had not finished.

    Args:
        folder (str): Where to look, in folders in it as well.
    """
    for inner in ('', '*'):
        pattern = osp.join(glob.escape(folder), inner, '*')
        for path in glob.glob(_unfinished_name(pattern, '*')):
            process = path.split('.')[-2]
            if process.isdigit() and not _runs(int(process)):
                os.remove(path)


def _unfinished_name(path: str, process: int | str) -> str:
    """Name the file that is written to until that of a path is complete."""
    folder, name = osp.split(osp.abspath(path))
    return osp.join(folder, f'.{name}.{process}.unfinished')


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True
