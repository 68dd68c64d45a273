"""Whatever a command loads through mmengine is read safely."""
from __future__ import annotations
from contextlib import contextmanager
from typing import Any, Iterator

import torch
from mmengine.runner import CheckpointLoader

from ..checkpoints.files import CheckpointError, load_with_state


@contextmanager
def safe_loading() -> Iterator[None]:
    """Have mmengine's loaders read checkpoints without running them.

    Its ``load_from``, ``init_cfg`` and ``resume`` take addresses of many
    kinds, ``https://``, ``torchvision://``, ``open-mmlab://``, ``s3://`` and
    files. Each has a loader, and all of them end in ``torch.load``, which
    would run whatever is in a file that has more in it than weights.
    """
    load = CheckpointLoader.load_checkpoint

    def load_safely(filename: str, *args: Any, **kwargs: Any) -> dict:
        unsafe = torch.load
        torch.load = _load
        try:
            checkpoint = load(filename, *args, **kwargs)
        except CheckpointError as error:
            if filename in str(error):
                raise
            raise CheckpointError(
                f'{filename} is given, but {error}') from error
        finally:
            torch.load = unsafe
        # A config is a program, and mmengine runs the one that mmcv 1 left
        # here, when it resumes, to count its GPUs.
        if isinstance(checkpoint.get('meta'), dict):
            checkpoint['meta'].pop('config', None)
        return checkpoint

    CheckpointLoader.load_checkpoint = staticmethod(load_safely)
    try:
        yield
    finally:
        CheckpointLoader.load_checkpoint = load


def _load(f: Any, map_location: Any = None, *args: Any, **kwargs: Any) -> dict:
    """Read a checkpoint; what else torch.load is told makes no difference."""
    return load_with_state(f, map_location)
