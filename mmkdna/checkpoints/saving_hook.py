"""A run that is killed at any moment has a whole checkpoint."""
from __future__ import annotations
import os.path as osp
from contextlib import contextmanager
from typing import Any, Callable, Iterator

from mmengine.dist import is_main_process
from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook
from mmengine.logging import MessageHub
from mmengine.runner import Runner

from .whole_files import whole_files
from .writing import delete_unfinished


class WholeCheckpointHook(CheckpointHook):
    """Mmengine's hook, which a kill leaves no half of a file by.

    It takes the name ``CheckpointHook``, so that no config has to ask for it.
    Files get their names once they are complete, ``last_checkpoint`` too. What
    ``max_keep_ckpts`` or ``save_best`` removes goes when that which takes its
    place is saved, where mmengine removes it before. What killed processes had
    not finished is deleted when a training starts.
    """
    file_backend: Any

    def before_train(self, runner: Runner) -> None:
        """Stand between mmengine's hook and its storage.

        Args:
            runner (Runner): The runner of the training.
        """
        super().before_train(runner)
        self._kept = _KeepingBackend(self.file_backend, runner.message_hub)
        self.file_backend = self._kept
        if is_main_process():
            for folder in {str(self.out_dir), runner.work_dir}:
                delete_unfinished(folder)
            self._kept.put_off_again(str(self.out_dir))

    def after_train_epoch(self, runner: Runner) -> None:
        """Save, see mmengine's hook."""
        with self._saving():
            super().after_train_epoch(runner)

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """Save, see mmengine's hook."""
        with self._saving():
            super().after_train_iter(*args, **kwargs)

    def after_val_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Save the best one, see mmengine's hook."""
        with self._saving():
            super().after_val_epoch(*args, **kwargs)

    def after_train(self, runner: Runner) -> None:
        """Publish, see mmengine's hook."""
        with self._saving():
            super().after_train(runner)

    @contextmanager
    def _saving(self) -> Iterator[None]:
        with whole_files():
            yield
        # Before the first one is saved, last_checkpoint names an old one.
        if self.last_ckpt is not None:
            # A new one may have the name of an old one.
            self._kept.remove_but([
                self.last_ckpt,
                getattr(self, 'best_ckpt_path', None),
                *getattr(self, 'best_ckpt_path_dict', {}).values()
            ])


class _KeepingBackend:
    """A storage that removes files when it is told to, and not before.

    The checkpoint that is saved meanwhile says what is still to be removed: a
    run that goes on from it does so.
    """

    KEY = 'replaced_ckpts'

    def __init__(self, backend: BaseStorageBackend, hub: MessageHub) -> None:
        self._backend = backend
        self._hub = hub
        self._removals: dict[str, Callable[[str], None]] = {}

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._put_off(self._backend.remove, path)

    def rmtree(self, path: str) -> None:
        self._put_off(self._backend.rmtree, path)

    def _put_off(self, remove: Callable[[str], None], path: str) -> None:
        self._removals[str(path)] = remove
        self._hub.update_info(self.KEY, list(self._removals))

    def put_off_again(self, folder: str) -> None:
        """Put off what a run that was killed had not removed any more."""
        for path in self._hub.runtime_info.get(self.KEY, ()):
            # The folder may have been copied since.
            here = self._backend.join_path(folder, osp.basename(path))
            if self._backend.isfile(here):
                self.remove(here)
            elif self._backend.isdir(here):
                self.rmtree(here)

    def remove_but(self, current: list[str | None]) -> None:
        if self._removals:
            names = [osp.basename(path) for path in current if path]
            removals, self._removals = self._removals, {}
            for path, remove in removals.items():
                if osp.basename(path) not in names:
                    remove(path)
            self._hub.update_info(self.KEY, [])
