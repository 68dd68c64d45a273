"""The folder that a run writes to, and no other run at the same time."""
from __future__ import annotations
import errno
import fcntl
import os
import os.path as osp
import socket
from contextlib import contextmanager, suppress
from typing import Iterator

from mmengine.config import Config

from .distributed import is_first_process
from .errors import CommandError
from .outputs import obstacle_to


def check_work_dir(work_dir: str) -> None:
    """End a run that could not write to its work_dir; nothing is written.

    Args:
        work_dir (str): The folder, which need not be there.
    """
    obstacle = obstacle_to(work_dir)
    if obstacle:
        raise CommandError(f'{work_dir} is the work_dir, but {obstacle}: give '
                           'another one by --work-dir')


@contextmanager
def held_work_dir(cfg: Config) -> Iterator[None]:
    """Hold the work_dir against a second training, which would mix with it.

    The lock is that of this process and ends with it, however it ends; what
    it forks does not have it. Of a distributed run, the first process has it.

    Args:
        cfg (Config): The config, with its work_dir.

    Raises:
        CommandError: If another process holds it.
    """
    if not is_first_process(cfg.launcher):
        yield
        return
    made = not osp.isdir(cfg.work_dir)
    os.makedirs(cfg.work_dir, exist_ok=True)
    path = osp.join(cfg.work_dir, '.lock')
    with open(path, 'a+') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            # Of others: some file systems have no locks.
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                raise CommandError(
                    f'{cfg.work_dir} is the work_dir, but another run writes '
                    f'to it, {file.read() or "a process"}: wait until it has '
                    'ended, or end it, or give another folder by --work-dir'
                ) from error
        file.truncate(0)
        file.write(f'process {os.getpid()} on {socket.gethostname()}')
        file.flush()
        try:
            yield
        finally:
            # Nothing is left of a run that could not be built.
            if made and os.listdir(cfg.work_dir) == ['.lock']:
                os.remove(path)
                with suppress(OSError):
                    os.removedirs(cfg.work_dir)
