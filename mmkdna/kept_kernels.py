"""Derived kernels kept for a while, when asked for.

A child derives its kernel in every forward. While weights stay as they are,
that is work for nothing; but no trace tells reliably that a weight has
changed. So kernels are kept only where somebody promises that weights stay:
inside a ``with``, as in :func:`torch.nn.utils.parametrize.cached`.
"""
from __future__ import annotations
from contextlib import ExitStack, contextmanager
from typing import Any, Iterator

from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import nn
from torch.distributed.fsdp import FullyShardedDataParallel

from .sharing import children_of


@contextmanager
def kept_kernels(model: nn.Module) -> Iterator[nn.Module]:
    """Derive the kernels of all children once, for all forwards inside.

    Inside, the weights of the model must not change: what is computed without
    gradients goes on with the kernels from the beginning. With gradients
    nothing is kept. Switching to train or eval mode and moving the model
    forget the kernels earlier; no copy and no file has them::

        with torch.no_grad(), mmkdna.kept_kernels(model.eval()):
            for images in batches:
                model(images)

    A model after :func:`mmkdna.switch_to_deploy` has nothing to keep.

    Args:
        model (nn.Module): A linked model, or one around it.

    Yields:
        nn.Module: The same model.

    Raises:
        RuntimeError: If FSDP has sharded a kernel that children derive from.
    """
    # What an outer one keeps is left to it.
    children = [c for c in children_of(model) if c._kept_kernel is None]
    try:
        for child in children:
            child.keep_kernel()
        yield model
    finally:
        for child in children:
            child.forget_kernel()


class KernelKeepingHook(Hook):
    """Keep derived kernels in the validation and test loops of a runner.

    Our ``tools/train.py`` and ``tools/test.py`` have it in every run; for the
    tools of the host libraries::

        custom_hooks = [dict(type='KernelKeepingHook')]

    Kernels are kept from the first batch of a loop, when an ``EMAHook`` has
    swapped weights, until right after its last, before they are swapped back.
    Under FSDP, which shards the kernels, nothing is kept.
    """

    priority = 'VERY_HIGH'

    def __init__(self) -> None:
        self._keeping = ExitStack()

    def _begin(self, runner: Runner, batch_idx: int, *_: Any,
               **__: Any) -> None:
        if batch_idx == 0 and not _is_sharded(runner.model):
            self._end(runner)
            self._keeping.enter_context(kept_kernels(runner.model))

    def _end(self, runner: Runner, *_: Any, **__: Any) -> None:
        self._keeping.close()

    before_val_iter = before_test_iter = _begin
    after_val_epoch = after_test_epoch = _end


def _is_sharded(model: nn.Module) -> bool:
    """Whether FSDP, by either of its interfaces, holds parts of kernels."""
    return any(
        isinstance(module, FullyShardedDataParallel)
        for module in model.modules()) or any(
            hasattr(parameter, 'placements')
            for parameter in model.parameters())
