"""Rivals whose attention starts soft and sharpens in the first epochs."""
from __future__ import annotations
import warnings
from dataclasses import dataclass
from typing import TypeVar

from torch import Tensor

from ..options import LayerChoice
from .rival import ExpertConv, Rival

AnnealedType = TypeVar('AnnealedType', bound='Annealed')


class Annealed(Rival):
    """A rival whose attention starts soft and sharpens in the first epochs.

    A subclass calls :meth:`start_annealing` when it becomes dynamic, and
    computes with ``progress``, however soft or sharp that is in its method.
    :class:`mmkdna.rivals.TemperatureHook` sets it; without the hook it stays
    as it is. It is saved with the weights, so whoever resumes, deploys or
    fine-tunes goes on with what training has reached.

    Attributes:
        progress (Tensor): Buffer, shape (), of a dynamic convolution: 0 at
            the start, 1 where the attention is as sharp as it gets.
        annealed (bool): Whether something sets ``progress``.
    """

    progress: Tensor
    annealed = False

    # Set by every convolution that becomes dynamic, cleared by the first that
    # is looked at: a model warns once, not once per layer and iteration.
    _look_at_start = False

    def start_annealing(self) -> None:
        """Get ``progress``, at the start."""
        self.register_buffer('progress', self.weight.detach().new_zeros(()))
        Annealed._look_at_start = True

    def soft_start(self) -> str:
        """Say how the convolution stays where ``progress`` stays 0.

        Returns:
            str: Behind 'the convolutions'; empty if it is as it should be.
        """
        raise NotImplementedError

    def train(self: AnnealedType, mode: bool = True) -> AnnealedType:
        """Set train or eval mode, and warn if the start would stay.

        Whoever trains calls it; who builds a model for inference does not.

        Args:
            mode (bool): Whether it is train mode. Defaults to True.

        Returns:
            Annealed: Itself.
        """
        if (mode and Annealed._look_at_start and self.dynamic
                and not self.annealed and self.soft_start()
                and not self.progress.is_meta):
            Annealed._look_at_start = False
            # Loaded weights may have brought what a training has reached.
            if not self.progress:
                warnings.warn(
                    f'{self.options.conv_type} is in train mode without a '
                    f'TemperatureHook, so its convolutions '
                    f'{self.soft_start()}: set custom_hooks=[dict(type='
                    '\'TemperatureHook\', end=10)], end in epochs, or call '
                    'set_progress() in a loop of your own')
        return super().train(mode)

    def set_progress(self, progress: float) -> None:
        """Make the attention as sharp as it is at a point of training.

        Args:
            progress (float): From 0, the start, to 1, the end.
        """
        self.progress.fill_(progress)
        self.annealed = True

    def temperature(self, start: float) -> Tensor:
        """What logits are divided by.

        Args:
            start (float): The temperature where ``progress`` is 0.

        Returns:
            Tensor: Shape (), 1 where ``progress`` is 1, and in proportion
            between.
        """
        return start + (1 - start) * self.progress


@dataclass(frozen=True)
class AnnealedExpertOptions(LayerChoice):
    """What a rival with experts and a temperature lets a user choose.

    A subclass documents all three, with defaults of its own.

    Args:
        num_experts (int): Kernels that are mixed.
        reduction (int): What the attention divides the channels by.
        temperature (float): What logits are divided by at the start.
    """
    num_experts: int = 1
    reduction: int = 16
    temperature: float = 30

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_int('num_experts', 1)
        self._require_int('reduction', 1)
        self._require_above_zero('temperature')


class AnnealedExpertConv(Annealed, ExpertConv):
    """A rival with experts, whose attention has a temperature."""
    options: AnnealedExpertOptions

    def soft_start(self) -> str:
        """Say so, unless the options set a temperature of 1."""
        start = self.options.temperature
        return '' if start == 1 else f'stay at the temperature {start}, not 1'
