"""How fast models are, timed in turns.

All models are timed round after round, so that a machine that is busy for a
while is so for all of them. Each round gives one ratio between two models.
"""
from __future__ import annotations
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any, Hashable, Mapping, Sequence, TypeVar

import torch
from torch import Tensor

from ..kept_kernels import kept_kernels
from .tables import markdown_table

HEAD = ('config', 'mode', 'batch', 'form', 'images/s', 'ratio', 'least',
        'greatest')
Key = TypeVar('Key', bound=Hashable)


class TimedModel:
    """A model that is timed.

    A classifier is timed to its logits, a segmentor to its logits before they
    are resized, a detector to the feature maps of its neck. In train mode it
    is a forward and a backward.

    Args:
        model (nn.Module): A classifier, segmentor or detector.
        mode (str): 'eval' or 'train'.
        device (str | torch.device): Where the model runs.
        kept (bool): Whether derived kernels are kept during each round.
            Defaults to False.
    """

    def __init__(self,
                 model: Any,
                 mode: str,
                 device: str | torch.device,
                 kept: bool = False) -> None:
        self.model = model.to(device)
        self.training = mode == 'train'
        self.on_gpu = torch.device(device).type == 'cuda'
        self.kept = kept
        self.repeats = 1
        whole = hasattr(model, 'head') or hasattr(model, 'decode_head')
        self.forward = (
            partial(model, mode='tensor') if whole else model.extract_feat)

    def calibrate(self, x: Tensor, seconds: float) -> None:
        """Warm up, and find how often to run in a round.

        Args:
            x (Tensor): Images on the model's device, shape (N, 3, H, W).
            seconds (float): For how long, at least, a round runs.
        """
        self.model.train(self.training)
        self.repeats = 1
        for _ in range(3):
            took = x.shape[0] / self.speed(x)
        self.repeats = math.ceil(seconds / took)

    def speed(self, x: Tensor) -> float:
        """Run one round.

        Args:
            x (Tensor): Images on the model's device, shape (N, 3, H, W).

        Returns:
            float: Images per second.
        """
        with kept_kernels(self.model) if self.kept else nullcontext():
            self._wait()
            start = time.perf_counter()
            for _ in range(self.repeats):
                with torch.set_grad_enabled(self.training):
                    outputs = self.forward(x)
                if self.training:
                    if torch.is_tensor(outputs):
                        outputs = (outputs, )
                    sum(out.mean() for out in outputs).backward()
            self._wait()
            took = time.perf_counter() - start
        # A training does so in every iteration too, but in its own way.
        self.model.zero_grad()
        return self.repeats * x.shape[0] / took

    def _wait(self) -> None:
        if self.on_gpu:
            torch.cuda.synchronize()


def time_in_turns(models: Mapping[Key, TimedModel], x: Tensor, rounds: int,
                  seconds: float) -> dict[Key, list[float]]:
    """Time models in turns.

    Args:
        models (Mapping[Any, TimedModel]): Models by any key.
        x (Tensor): Images on the models' device, shape (N, 3, H, W).
        rounds (int): How often each model is timed.
        seconds (float): For how long, at least, each runs in a round.

    Returns:
        dict[Any, list[float]]: Images per second by key, one number per
        round.
    """
    for model in models.values():
        model.calibrate(x, seconds)
    speeds: dict[Key, list[float]] = {key: [] for key in models}
    for number in range(rounds):
        # Back and forth, so that none is always the first.
        for key in list(models)[::1 if number % 2 == 0 else -1]:
            speeds[key].append(models[key].speed(x))
    return speeds


@dataclass(frozen=True)
class SpeedRow:
    """The speed of one form of a config's model.

    Attributes:
        config (str): Name of the config.
        form (str): The form.
        mode (str): 'eval' or 'train'.
        batch (int): Number of images in a batch.
        images_per_second (float): Median over the rounds.
        ratio (dict[str, float]): 'min', 'median' and 'max' over the rounds of
            the ratio to the speed that is compared with.
        rounds (list[float]): Images per second of each round.
    """
    config: str
    form: str
    mode: str
    batch: int
    images_per_second: float
    ratio: dict[str, float]
    rounds: list[float]


def summarize_speeds(speeds: Mapping[tuple[str, str], list[float]], mode: str,
                     batch: int) -> list[SpeedRow]:
    """Compare speeds with that of the first form of the same config.

    If all are of one form, they are compared with that of the first config.

    Args:
        speeds (Mapping[tuple[str, str], list[float]]): What
            :func:`time_in_turns` gives, by config and form.
        mode (str): 'eval' or 'train'.
        batch (int): Number of images in a batch.

    Returns:
        list[SpeedRow]: A row per config and form.
    """
    references: dict[str, list[float]] = {}
    one_form = len({form for _, form in speeds}) == 1
    rows = []
    for (config, form), rounds in speeds.items():
        reference = references.setdefault('' if one_form else config, rounds)
        ratios = [ours / theirs for ours, theirs in zip(rounds, reference)]
        rows.append(
            SpeedRow(
                config,
                form,
                mode,
                batch,
                images_per_second=median(rounds),
                ratio=dict(
                    min=min(ratios), median=median(ratios), max=max(ratios)),
                rounds=rounds))
    return rows


def speed_table(rows: Sequence[SpeedRow]) -> str:
    """Write speeds as a Markdown table.

    Args:
        rows (Sequence[SpeedRow]): The rows.

    Returns:
        str: The table, with a line per row.
    """
    return markdown_table(HEAD, [(row.config, row.mode, row.batch, row.form,
                                  f'{row.images_per_second:.1f}',
                                  *(f'{row.ratio[name]:.3f}'
                                    for name in ('median', 'min', 'max')))
                                 for row in rows])
