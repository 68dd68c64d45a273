"""No checkpoint is removed before the one that takes its place is saved."""
from __future__ import annotations
from typing import Any, Callable

from mmengine.fileio import BaseStorageBackend
from mmengine.hooks import CheckpointHook, Hook
from mmengine.runner import Runner


class KeepUntilSavedHook(Hook):
    """Puts off what mmengine's CheckpointHook removes.

    With ``max_keep_ckpts`` or ``save_best``, that hook removes an old
    checkpoint before it saves the new one; a run that is killed in between
    would leave none.
    """

    priority = 'LOWEST'

    def __init__(self) -> None:
        self._kept: list[_KeepingBackend] = []

    def before_train(self, runner: Runner) -> None:
        """Stand between the hooks that save and their storage."""
        for hook in runner.hooks:
            if isinstance(hook, CheckpointHook):
                hook.file_backend = _KeepingBackend(hook, hook.file_backend)
                self._kept.append(hook.file_backend)

    def after_train_iter(self, *args: Any, **kwargs: Any) -> None:
        """Remove what was put off, since the new one is saved."""
        self._remove()

    def after_train_epoch(self, runner: Runner) -> None:
        """Remove what was put off, since the new one is saved."""
        self._remove()

    def after_val_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Remove what was put off, since the new best one is saved."""
        self._remove()

    def _remove(self) -> None:
        for backend in self._kept:
            backend.remove_now()


class _KeepingBackend:
    """A storage that removes files when it is told to, and not before."""

    def __init__(self, hook: CheckpointHook,
                 backend: BaseStorageBackend) -> None:
        self._hook = hook
        self._backend = backend
        self._removals: list[tuple[Callable, str]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(self._backend, name)

    def remove(self, path: str) -> None:
        self._removals.append((self._backend.remove, path))

    def rmtree(self, path: str) -> None:
        self._removals.append((self._backend.rmtree, path))

    def remove_now(self) -> None:
        removals, self._removals = self._removals, []
        # A new one may have the name of the old one.
        current = [
            self._hook.last_ckpt,
            getattr(self._hook, 'best_ckpt_path', None),
            *getattr(self._hook, 'best_ckpt_path_dict', {}).values()
        ]
        for remove, path in removals:
            if path not in current:
                remove(path)
