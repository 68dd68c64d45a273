"""How fast models are, timed in turns, and the memory that a step needs.

All models are timed round after round, so that a machine that is busy for a
while is so for all of them. Each round gives one ratio between two models.
"""
from __future__ import annotations
import math
import time
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from typing import Any, Callable, ContextManager, Hashable, Mapping, TypeVar

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor

from ..kept_kernels import kept_kernels
from .memory import backward_memory, peak_memory

Key = TypeVar('Key', bound=Hashable)


@dataclass(frozen=True)
class Setting:
    """How models are run.

    Args:
        mode (str): 'eval', or 'train', which is a forward and a backward
            without an optimizer. Defaults to 'eval'.
        device (str): A CPU or a CUDA device. Defaults to 'cpu'.
        dtype (torch.dtype): If not float32, forwards run in an autocast to
            it, as in a training with AMP. Defaults to torch.float32.
        channels_last (bool): Whether kernels and images have that memory
            format. Defaults to False.
        whole (bool): Whether a model is run as ``test.py`` runs it, from
            images as they are to predictions, in eval mode only. Defaults to
            False: a classifier is run to its logits, a segmentor to its
            logits before they are resized, a detector to the feature maps of
            its neck.
    """
    mode: str = 'eval'
    device: str = 'cpu'
    dtype: torch.dtype = torch.float32
    channels_last: bool = False
    whole: bool = False

    def images(self, batch: int, height: int, width: int) -> Tensor:
        """Make random images for models to run on.

        Args:
            batch (int): How many.
            height (int): In pixels.
            width (int): In pixels.

        Returns:
            Tensor: Shape (N, 3, H, W): normalized ones, or, for whole models,
            uint8.
        """
        shape = (batch, 3, height, width)
        if self.whole:
            return torch.randint(
                0, 256, shape, dtype=torch.uint8, device=self.device)
        images = torch.randn(shape, device=self.device)
        if self.channels_last:
            images = images.contiguous(memory_format=torch.channels_last)
        return images


class TimedModel:
    """A model that is timed.

    Args:
        model (nn.Module): A classifier, segmentor or detector.
        setting (Setting): How it is run. Defaults to ``Setting()``.
        kept (bool): Whether derived kernels are kept during each round.
            Defaults to False.
        compiled (bool): Whether ``torch.compile`` compiles it, in one piece,
            for each shape of images. Defaults to False.
    """

    def __init__(self,
                 model: Any,
                 setting: Setting = Setting(),
                 kept: bool = False,
                 compiled: bool = False) -> None:
        self.model = model.to(setting.device)
        self.setting = setting
        self.training = setting.mode == 'train'
        self.kept = kept
        self.repeats = 1
        if setting.channels_last:
            model.to(memory_format=torch.channels_last)
        self.forward = self._forward(compiled)

    def _forward(self, compiled: bool) -> Callable[[Tensor], Any]:
        """Choose what is timed."""
        model = self.model
        to_the_end = hasattr(model, 'head') or hasattr(model, 'decode_head')
        if self.setting.whole:
            # Only a detector needs to know of each image what it is.
            return partial(_predict if to_the_end else _detect, model)
        run = model if to_the_end else model.extract_feat
        if compiled:
            run = torch.compile(run, fullgraph=True, dynamic=False)
        return partial(run, mode='tensor') if to_the_end else run

    def calibrate(self, x: Tensor, seconds: float) -> None:
        """Warm up, and find how often to run in a round.

        Args:
            x (Tensor): Images from :meth:`Setting.images`.
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
            x (Tensor): Images from :meth:`Setting.images`.

        Returns:
            float: Images per second.
        """
        with self._keeping():
            self._wait()
            start = time.perf_counter()
            for _ in range(self.repeats):
                self._step(x)
            self._wait()
            took = time.perf_counter() - start
        # A training does so in every iteration too, but in its own way.
        self.model.zero_grad()
        return self.repeats * x.shape[0] / took

    def memory(self, x: Tensor) -> tuple[int, int | None]:
        """Run one step, and another forward, and count their memory.

        Args:
            x (Tensor): Images from :meth:`Setting.images`.

        Returns:
            tuple[int, int | None]: Bytes, beyond those of weights and images:
            the peak of a step, gradients included; and, in train mode, what
            the forward keeps for the backward.
        """
        with self._keeping():
            peak = peak_memory(lambda: self._step(x), self.setting.device)
        backward = None
        if self.training:
            backward = backward_memory(lambda: self._run(x), self.model)
        self.model.zero_grad()
        return peak, backward

    def _run(self, x: Tensor) -> Any:
        setting = self.setting
        cast: ContextManager = nullcontext()
        if setting.dtype != torch.float32:
            cast = torch.autocast(
                torch.device(setting.device).type, dtype=setting.dtype)
        with torch.set_grad_enabled(self.training), cast:
            return self.forward(x)

    def _step(self, x: Tensor) -> None:
        outputs = self._run(x)
        if self.training:
            if torch.is_tensor(outputs):
                outputs = (outputs, )
            sum(out.mean() for out in outputs).backward()

    def _keeping(self) -> ContextManager:
        return kept_kernels(self.model) if self.kept else nullcontext()

    def _wait(self) -> None:
        if torch.device(self.setting.device).type == 'cuda':
            torch.cuda.synchronize(self.setting.device)


def _predict(model: Any, x: Tensor) -> Any:
    """Run a classifier or segmentor as test.py does."""
    return model.test_step(dict(inputs=list(x)))


def _detect(model: Any, x: Tensor) -> Any:
    """Run a detector as test.py does, on images of their original size."""
    shape = tuple(x.shape[2:])
    samples = [
        BaseDataElement(
            metainfo=dict(
                img_shape=shape, ori_shape=shape, scale_factor=(1., 1.)))
        for _ in x
    ]
    return model.test_step(dict(inputs=list(x), data_samples=samples))


def time_in_turns(models: Mapping[Key, TimedModel], x: Tensor,
                  rounds: int) -> dict[Key, list[float]]:
    """Time models in turns.

    Args:
        models (Mapping[Any, TimedModel]): Models by any key, calibrated.
        x (Tensor): Images for all of them, from :meth:`Setting.images`.
        rounds (int): How often each model is timed.

    Returns:
        dict[Any, list[float]]: Images per second by key, one number per
        round.
    """
    speeds: dict[Key, list[float]] = {key: [] for key in models}
    for number in range(rounds):
        # Back and forth, so that none is always the first.
        for key in list(models)[::1 if number % 2 == 0 else -1]:
            speeds[key].append(models[key].speed(x))
    return speeds
