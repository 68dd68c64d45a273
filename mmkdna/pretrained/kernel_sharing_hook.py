"""From a child's own kernel to its parent's, step by step."""
from __future__ import annotations
import math

from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.runner import Runner

from .own_kernels import drop_own_kernels, forget_dropped, own_kernel_children

SCHEDULES = ('linear', 'cosine')


class KernelSharingHook(Hook):
    r"""Start children from their own pretrained kernels.

    With ``conv_cfg=dict(type='KernelDNA', keep_own_kernel=True)`` a child
    keeps the kernel :math:`W_0` that plain pretrained weights have for it, and
    computes with :math:`a W_0 + (1 - a) W_\text{derived}`. This hook lowers
    :math:`a` from 1 to 0; then :math:`W_0` is gone from the model, the
    averaged model of an ``EMAHook`` and their checkpoints. :math:`W_0` is a
    buffer, so no optimizer ever holds it. :math:`a` depends on the iteration
    only: a run that is interrupted on the way resumes exactly.

    Args:
        end (int): Iteration from which children have derived kernels only.
        begin (int): Iteration at which they begin to move. Defaults to 0.
        schedule (str): 'linear' or 'cosine'. Defaults to 'linear'.

    Raises:
        ValueError: If the iterations or the schedule make no sense.
    """

    # Before EMAHook (NORMAL) and CheckpointHook (VERY_LOW).
    priority = 'ABOVE_NORMAL'

    def __init__(self,
                 end: int,
                 begin: int = 0,
                 schedule: str = 'linear') -> None:
        if not 0 <= begin < end:
            raise ValueError(
                f'KernelSharingHook: begin={begin} and end={end} are given, '
                '0 <= begin < end, in iterations, is expected')
        if schedule not in SCHEDULES:
            raise ValueError(f'KernelSharingHook: schedule={schedule!r} is '
                             f'given, one of {SCHEDULES} is expected')
        self.begin = begin
        self.end = end
        self.schedule = schedule

    def before_train(self, runner: Runner) -> None:
        """Check that there is something to do, and time to do it.

        Raises:
            ValueError: If training stops before ``end``, or no convolution
                keeps its own kernel although ``end`` is still to come.
        """
        if runner.max_iters <= self.end:
            raise ValueError(
                f'KernelSharingHook: end={self.end} is given, but training '
                f'stops after {runner.max_iters} iterations, with the '
                'children on their way: set an earlier end')
        if runner.iter < self.end and not own_kernel_children(runner):
            raise ValueError(
                'KernelSharingHook finds no child that has its own kernel: '
                'expected conv_cfg=dict(type=\'KernelDNA\', '
                'keep_own_kernel=True) on what shares; set it, or remove the '
                'hook')
        # The checkpoint that is resumed may be from after the end.
        forget_dropped(runner)

    def before_train_iter(
            self,
            runner: Runner,
            batch_idx: int,
            data_batch: dict | tuple | list | None = None) -> None:
        """Set each child's share of its own kernel for this iteration."""
        children = own_kernel_children(runner)
        if not children:
            return
        if runner.iter >= self.end:
            drop_own_kernels(runner)
            print_log(
                f'KernelSharingHook: from iteration {runner.iter} on all '
                'children have derived kernels only',
                logger='current')
            return
        for conv in children:
            conv.own_share.fill_(self.own_share(runner.iter))

    def own_share(self, iteration: int) -> float:
        """Compute a child's share of its own kernel.

        Args:
            iteration (int): Iteration, from 0.

        Returns:
            float: 1 until ``begin``, 0 from ``end`` on.
        """
        progress = (iteration - self.begin) / (self.end - self.begin)
        progress = min(max(progress, 0.), 1.)
        if self.schedule == 'cosine':
            progress = (1 - math.cos(math.pi * progress)) / 2
        return 1 - progress
