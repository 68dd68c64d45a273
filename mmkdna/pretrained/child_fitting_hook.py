"""From a child's own kernel to its parent's at once, fitted on images."""
from __future__ import annotations
from itertools import islice

from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import DataLoader

from .fitting import fit_children, training_inputs
from .own_kernels import drop_own_kernels, forget_dropped, own_kernel_children


class ChildFittingHook(Hook):
    """Fit blocks with children to what they computed with own kernels.

    Before the first iteration :func:`mmkdna.pretrained.fitting.fit_children`
    runs on images of the train dataloader; labels are not looked at. Children
    need ``conv_cfg=dict(type='KernelDNA', keep_own_kernel=True)`` and plain
    pretrained weights; afterwards they have derived kernels only. A run that
    is resumed is not fitted again.

    Args:
        num_batches (int): Batches to look at, per process. Their pictures
            are kept in the memory of the CPU. Defaults to 50.

    Raises:
        ValueError: If ``num_batches`` is not positive.
    """

    priority = 'ABOVE_NORMAL'

    def __init__(self, num_batches: int = 50) -> None:
        if num_batches < 1:
            raise ValueError(f'ChildFittingHook: num_batches={num_batches} is '
                             'given, 1 or more is expected')
        self.num_batches = num_batches

    def before_train(self, runner: Runner) -> None:
        """Fit, unless the run is resumed.

        Raises:
            ValueError: If no child keeps its own kernel.
            RuntimeError: If FSDP has sharded the model.
        """
        if runner.iter > 0:
            forget_dropped(runner)
            return
        if not own_kernel_children(runner):
            raise ValueError(
                'ChildFittingHook finds no child that has its own kernel: '
                'expected conv_cfg=dict(type=\'KernelDNA\', '
                'keep_own_kernel=True) on a backbone that shares; set it, or '
                'remove the hook')
        if any(
                isinstance(module, FullyShardedDataParallel)
                for module in runner.model.modules()):
            raise RuntimeError(
                'ChildFittingHook is given, but FSDP has sharded the weights '
                'that it would fit: fit them before, by '
                'tools/model_converters/plain_to_mmkdna.py with --fit, and '
                'take what it writes as load_from, or use KernelSharingHook')
        model = runner.model.module if is_model_wrapper(
            runner.model) else runner.model
        # All of them are looked at once per block, so the pictures are kept,
        # but not where memory is short.
        batches = [
            training_inputs(model, batch).cpu()
            for batch in islice(self._dataloader(runner), self.num_batches)
        ]
        fit_children(model, batches, model.extract_feat)
        drop_own_kernels(runner)

    @staticmethod
    def _dataloader(runner: Runner) -> DataLoader:
        """Build another train dataloader.

        An endless sampler of the run's own would go on where this ends.
        """
        cfg, dataloader = runner._train_dataloader, runner.train_dataloader
        if not isinstance(cfg, dict):
            return dataloader
        return runner.build_dataloader(
            dict(cfg, dataset=dataloader.dataset), seed=runner.seed)
