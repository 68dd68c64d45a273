"""SEConv: squeeze-and-excitation on the input of a convolution."""
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..options import LayerChoice
from .rival import Rival


@dataclass(frozen=True)
class SEConvOptions(LayerChoice):
    """Options of one ``SEConv`` convolution, beside which take part.

    Args:
        reduction (int): The gate reduces to
            ``max(in_channels // reduction, 1)`` channels. Defaults to 16.
    """
    conv_type: ClassVar[str] = 'SEConv'

    reduction: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_int('reduction', 1)


class SEConv2d(Rival, nn.Conv2d):
    r"""A convolution whose input channels are gated, with its own kernel.

    .. math:: y = W * (x \cdot g), \quad
        g = \sigma(\text{fc2}(\text{relu}(\text{fc1}(\text{mean}(x)))))

    Source: arXiv 1709.01507. It shows what a dynamic gate alone brings, as a
    control of the methods whose kernels are dynamic. Pretrained weights start
    exactly at the plain convolution: ``fc2`` is zero, so each gate is 0.5,
    and the kernel is twice the plain one.

    Args:
        **kwargs: As of :class:`mmkdna.unit_conv.UnitConv`, with the
            options of :class:`SEConvOptions`.

    Attributes:
        fc1 (nn.Linear): Reduces the channels, of a dynamic convolution.
        fc2 (nn.Linear): Gives the logits of the gates.
    """
    options_type = SEConvOptions
    options: SEConvOptions
    fc1: nn.Linear
    fc2: nn.Linear

    def become_dynamic(self) -> None:
        """Get the two layers of the gate."""
        hidden = max(self.in_channels // self.options.reduction, 1)
        self.fc1 = self.adopt(nn.Linear(self.in_channels, hidden))
        self.fc2 = self.adopt(nn.Linear(hidden, self.in_channels))

    def gate(self, x: Tensor) -> Tensor:
        """Compute one factor per image and input channel.

        Args:
            x (Tensor): Shape (N, C_in, H, W).

        Returns:
            Tensor: Shape (N, C_in, 1, 1), each in (0, 1).
        """
        logits = self.fc2(F.relu(self.fc1(x.mean((2, 3)))))
        return torch.sigmoid(logits)[:, :, None, None]

    def forward_dynamic(self, x: Tensor) -> Tensor:
        """Convolve the gated input."""
        return self._conv_forward(x, self.weight, self.bias)

    def _conv_forward(self, x: Tensor, weight: Tensor,
                      bias: Tensor | None) -> Tensor:
        # efficient_conv_bn_eval comes here past forward, with a scaled kernel.
        if self.dynamic:
            x = x * self.gate(x)
        return super()._conv_forward(x, weight, bias)

    def plain_start(self, weight: Tensor) -> dict[str, Tensor]:
        """Start exactly at the plain convolution."""
        return {
            'weight': weight * 2,
            'fc1.weight': self.fc1.weight.detach(),
            'fc1.bias': self.fc1.bias.detach(),
            'fc2.weight': torch.zeros_like(self.fc2.weight),
            'fc2.bias': torch.zeros_like(self.fc2.bias)
        }
