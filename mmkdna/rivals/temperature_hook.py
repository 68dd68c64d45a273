"""From a soft attention to a sharp one, in the first epochs."""
from __future__ import annotations
from typing import Any

from mmengine.hooks import Hook
from mmengine.runner import Runner

from ..averaging import averaged_models
from .annealed import Annealed


class TemperatureHook(Hook):
    """Sharpen the attention of convolutions as training goes on.

    ``DyConv`` and ``ODConv`` lower their temperature with it, in equal steps
    from that of their options to 1; ``KernelWarehouse`` goes from mixtures
    that are each a cell of their own to what its attention says. The averaged
    model of an ``EMAHook`` has the temperature of the trained one. The
    temperature depends on the iteration only, and changes with each: a run
    that is interrupted on the way resumes exactly.

    Args:
        end (int): Epoch or iteration from which on attention is as sharp as
            it gets. Defaults to 10.
        by_epoch (bool): Whether ``end`` counts epochs. Defaults to True.

    Raises:
        ValueError: If ``end`` or ``by_epoch`` makes no sense.
    """

    # Before EMAHook (NORMAL) and CheckpointHook (VERY_LOW).
    priority = 'ABOVE_NORMAL'

    def __init__(self, end: int = 10, by_epoch: bool = True) -> None:
        if not isinstance(end, int) or isinstance(end, bool) or end < 1:
            raise ValueError(
                f'TemperatureHook: end={end!r} is given, an int of 1 or more '
                'is expected, in epochs, or in iterations with '
                'by_epoch=False')
        if not isinstance(by_epoch, bool):
            raise ValueError(f'TemperatureHook: by_epoch={by_epoch!r} is '
                             'given, True or False is expected')
        self.end = end
        self.by_epoch = by_epoch

    def before_train(self, runner: Runner) -> None:
        """Check that there is something to do, and time to do it.

        Raises:
            ValueError: If training stops before ``end``, or no convolution
                has anything to sharpen.
        """
        # A loop over iterations counts as one epoch.
        length = runner.max_epochs if self.by_epoch else runner.max_iters
        if length <= self.end:
            unit = 'epochs' if self.by_epoch else 'iterations'
            raise ValueError(
                f'TemperatureHook: end={self.end} is given, but training '
                f'stops after {length} {unit}, with the attention on its '
                'way: set an earlier end, or by_epoch=False in training that '
                'counts iterations')
        convs = _annealed_convs(runner)
        if not convs:
            raise ValueError(
                'TemperatureHook finds no convolution whose attention it '
                'could sharpen: expected conv_cfg with the type DyConv, '
                'ODConv or KernelWarehouse on what takes part; set it, or '
                'remove the hook')
        for conv in convs:
            conv.annealed = True

    def before_train_iter(self,
                          runner: Runner,
                          batch_idx: int,
                          data_batch: Any = None) -> None:
        """Set how sharp attention is in this iteration."""
        end = self.end
        if self.by_epoch:
            end *= runner.max_iters // runner.max_epochs
        for conv in _annealed_convs(runner):
            conv.set_progress(min(runner.iter / end, 1))


def _annealed_convs(runner: Runner) -> list[Annealed]:
    """Those of the trained model and of the averaged ones."""
    return [
        conv for model in (runner.model, *averaged_models(runner))
        for conv in model.modules()
        if isinstance(conv, Annealed) and conv.dynamic
    ]
