"""A training that starts from a reconstructed network."""
from __future__ import annotations
import json
import tempfile
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any, Iterator

from mmengine.dist import get_rank
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.distributed.fsdp import FullyShardedDataParallel
from torch.utils.data import DataLoader

from ..checkpoints.writing import written_whole
from ..forward import forward_dense
from ..pretrained.own_kernels import (drop_own_kernels, forget_dropped,
                                      own_kernel_children)
from .batches import StoredBatches
from .fitting import Recipe
from .whole_model import FEWEST, reconstruct


class ReconstructionHook(Hook):
    """Reconstruct a network on pictures before its training.

    Before the first iteration :func:`mmkdna.reconstruction.reconstruct` runs
    on pictures of the train dataloader; labels are not looked at. Children
    need ``conv_cfg=dict(type='KernelDNA', keep_own_kernel=True)`` and plain
    pretrained weights; afterwards they have derived kernels only. What came of
    it is in the log and in ``reconstruction.json`` in the work dir. A run
    that is resumed is not reconstructed again; one that was stopped before its
    first checkpoint goes on with the reconstruction where it was, by
    ``reconstruction.pth`` in the work dir, if it starts from the same weights
    and pictures, for which it needs ``randomness=dict(seed=...)``. At the end
    of the training that file is removed.

    Args:
        num_batches (int): Batches to look at, per process; 3 or more. Their
            pictures are kept in the folder for temporary files. A last one
            with fewer pictures is left out. Defaults to 50.
        steps (int): Steps of Adam for each part, see
            :class:`mmkdna.reconstruction.Recipe`. Defaults to 160.

    Raises:
        ValueError: If ``num_batches`` is below 3 or ``steps`` not positive.
    """

    # Before EMAHook (NORMAL) and CheckpointHook (VERY_LOW).
    priority = 'ABOVE_NORMAL'

    def __init__(self, num_batches: int = 50, steps: int = 160) -> None:
        if num_batches < FEWEST:
            raise ValueError(
                f'ReconstructionHook: num_batches={num_batches} is given, '
                f'{FEWEST} or more is expected')
        self.num_batches = num_batches
        self.recipe = Recipe(steps=steps)

    def before_train(self, runner: Runner) -> None:
        """Reconstruct, unless the run is resumed.

        Raises:
            ValueError: If no child keeps its own kernel, or the pictures are
                too few.
            RuntimeError: If FSDP has sharded the model.
        """
        if runner.iter > 0:
            forget_dropped(runner)
            # A checkpoint has what it is for.
            self.after_train(runner)
            return
        if not own_kernel_children(runner):
            raise ValueError(
                'ReconstructionHook finds no child that has its own kernel: '
                'expected conv_cfg=dict(type=\'KernelDNA\', '
                'keep_own_kernel=True) on what shares; set it, or remove the '
                'hook')
        if any(
                isinstance(module, FullyShardedDataParallel)
                for module in runner.model.modules()):
            raise RuntimeError(
                'ReconstructionHook is given, but FSDP has sharded the '
                'weights that it would fit: reconstruct before, by '
                'tools/model_converters/plain_to_mmkdna.py with '
                '--reconstruct, and take what it writes as load_from, or use '
                'KernelSharingHook')
        model = runner.model.module if is_model_wrapper(
            runner.model) else runner.model
        # Every part looks at all of them.
        with tempfile.TemporaryDirectory() as folder:
            report = reconstruct(
                model,
                StoredBatches(self._batches(runner, model), folder),
                forward_dense,
                self.recipe,
                seed=runner.seed,
                state=self._state(runner))
        if get_rank() == 0:
            with written_whole(
                    Path(runner.work_dir, 'reconstruction.json'), 'w',
                    'utf-8') as file:
                json.dump(asdict(report), file, indent=1)
        drop_own_kernels(runner)

    def after_train(self, runner: Runner) -> None:
        """Remove what a run that is stopped before a checkpoint goes on
        from."""
        if get_rank() == 0:
            self._state(runner).unlink(missing_ok=True)

    def _batches(self, runner: Runner, model: nn.Module) -> Iterator[Tensor]:
        """Make batches as training does, and leave out a last one of fewer,
        which would count the same."""
        number = None
        for batch in islice(self._dataloader(runner), self.num_batches):
            pictures = training_inputs(model, batch)
            number = number or len(pictures)
            if len(pictures) == number:
                yield pictures

    @staticmethod
    def _state(runner: Runner) -> Path:
        return Path(runner.work_dir, 'reconstruction.pth')

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


def training_inputs(model: nn.Module, batch: dict | tuple | list) -> Tensor:
    """Make the pictures of a batch of the train dataloader as training does.

    They are padded to one size, which mmseg does in training only; what mixes
    or resizes whole batches is left out.

    Args:
        model (nn.Module): A model with a data preprocessor.
        batch (dict | tuple | list): What the dataloader gives.

    Returns:
        Tensor: Shape (N, 3, H, W).
    """
    preprocessor: Any = model.data_preprocessor
    augments = getattr(preprocessor, 'batch_augments', None)
    if augments is None:
        return preprocessor(batch, True)['inputs']
    preprocessor.batch_augments = None
    try:
        return preprocessor(batch, True)['inputs']
    finally:
        preprocessor.batch_augments = augments
