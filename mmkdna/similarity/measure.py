"""How alike the convolutions of a model are, measured on pictures."""
from __future__ import annotations
import math
from collections import defaultdict
from dataclasses import dataclass
from typing import Any, Callable, Iterable

import torch
from torch import Tensor, nn

from ..forward import finite_outputs
from ..linking import stage_of
from .cka import MIN_BATCH, MinibatchCKA, gram
from .kernels import KernelPair, compare_kernels


@dataclass(frozen=True)
class Similarity:
    """What :func:`measure_similarity` finds.

    Attributes:
        names (list[str]): Convolutions, in the order in which they run.
        stages (list[str]): Of each, the leading parts of its name.
        cka (list[list[float | None]]): Between the outputs of each two; None
            for one whose output is the same for all pictures.
        pairs (list[KernelPair]): Of kernels that could be one.
        num_pictures (int): That were counted.
    """
    names: list[str]
    stages: list[str]
    cka: list[list[float | None]]
    pairs: list[KernelPair]
    num_pictures: int


@torch.no_grad()
def measure_similarity(model: nn.Module,
                       batches: Iterable[Tensor],
                       forward: Callable[[Any, Tensor], Any],
                       stage_level: int = 2) -> Similarity:
    """Compare the outputs and the kernels of a model's convolutions.

    A convolution that runs several times in a forward, as those of a dense
    head over all levels, counts with all its outputs together. One that does
    not run, or not once per picture, as those of an RoI head, is left out of
    the outputs.

    Args:
        model (nn.Module): A model, in the mode it shall run in.
        batches (Iterable[Tensor]): Pictures, shape (N, 3, H, W). A batch of
            fewer than 4, or than the first has, is not counted.
        forward (callable): Runs the model on a batch, such as
            :func:`mmkdna.forward.forward_dense`.
        stage_level (int): How many leading parts of a name make a stage.
            Defaults to 2, as in ``backbone.layer3``.

    Returns:
        Similarity: All of it.

    Raises:
        ValueError: If no batch counts, or the model computes something that is
            no finite number, or too large a one.
    """
    convs = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.Conv2d)
    }
    grams: dict[str, list[Tensor]] = defaultdict(list)
    handles = [
        conv.register_forward_hook(
            # The name is bound now, since the loop goes on.
            lambda _, args, out, name=name: grams[name].append(
                _finite_gram(name, out))) for name, conv in convs.items()
    ]
    names: list[str] = []
    cka, num_pictures, size = None, 0, MIN_BATCH
    try:
        for batch in batches:
            if len(batch) < size:
                continue
            grams.clear()
            with finite_outputs(model):
                forward(model, batch)
            if cka is None:
                size = len(batch)
                names = [n for n in grams if _per_picture(grams[n], size)]
                cka = MinibatchCKA(len(names))
            cka.add([sum(grams[name][1:], grams[name][0]) for name in names])
            num_pictures += len(batch)
    finally:
        for handle in handles:
            handle.remove()
    if cka is None:
        raise ValueError(f'no batch has {MIN_BATCH} pictures: give more of '
                         'them')
    return Similarity(
        names=names,
        stages=['.'.join(stage_of(name, stage_level)) for name in names],
        cka=[[None if math.isnan(value) else value for value in row]
             for row in cka.value().tolist()],
        pairs=compare_kernels(model, stage_level),
        num_pictures=num_pictures)


def _finite_gram(name: str, output: Tensor) -> Tensor:
    """Compare pictures by an output, unless its squares are too large."""
    products = gram(output)
    if output.isfinite().all() and not products.isfinite().all():
        raise ValueError(f'the output of {name} has values of up to '
                         f'{float(output.abs().max()):.1e}, whose squares are '
                         'no finite numbers: look at its weights')
    return products


def _per_picture(grams: list[Tensor], size: int) -> bool:
    """Whether a convolution saw the pictures of a batch, one by one."""
    return all(len(one) == size for one in grams)
