"""Whatever mmengine writes for a while is whole or not there."""
from __future__ import annotations
from contextlib import contextmanager
from pathlib import Path
from typing import IO, ContextManager, Iterator

from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import checkpoint_hook

from .writing import written_whole


class WholeFileBackend(LocalBackend):
    """Writes files on this machine as a whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes.

        Args:
            obj (bytes): What to write.
            filepath (str | Path): Where to.
        """
        with written_whole(filepath) as file:
            file.write(obj)

    def put_text(self,
                 obj: str,
                 filepath: str | Path,
                 encoding: str = 'utf-8') -> None:
        """Write a text.

        Args:
            obj (str): What to write.
            filepath (str | Path): Where to.
            encoding (str): Its encoding. Defaults to 'utf-8'.
        """
        with written_whole(filepath, 'w', encoding) as file:
            file.write(obj)


@contextmanager
def whole_files() -> Iterator[None]:
    """Have mmengine write checkpoints, and what names the last, as a whole."""
    if hasattr(checkpoint_hook, 'open'):  # within another such context
        yield
        return
    register_backend('local', WholeFileBackend, force=True, prefixes='')
    # All that this module opens is the file last_checkpoint, to write it.
    checkpoint_hook.open = _open
    try:
        yield
    finally:
        del checkpoint_hook.open
        register_backend('local', LocalBackend, force=True, prefixes='')


def _open(path: str, mode: str) -> ContextManager[IO]:
    return written_whole(path, mode)
