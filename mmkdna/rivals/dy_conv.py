"""DyConv: kernels mixed by softmax weights."""
from __future__ import annotations
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .annealed import AnnealedExpertConv, AnnealedExpertOptions
from .mixing import conv_per_image, mix


@dataclass(frozen=True)
class DyConvOptions(AnnealedExpertOptions):
    """Options of one ``DyConv`` convolution, beside which take part.

    Args:
        num_experts (int): Kernels that are mixed. Defaults to 4.
        reduction (int): The attention reduces to
            ``max(in_channels // reduction, 1)`` channels. Defaults to 4.
        temperature (float): What the logits of the attention are divided by
            at the start; :class:`mmkdna.rivals.TemperatureHook` lowers it to
            1. Without the hook it stays, so set 1 then. Defaults to 30.
    """
    conv_type: ClassVar[str] = 'DyConv'

    num_experts: int = 4
    reduction: int = 4


class DyConv2d(AnnealedExpertConv, nn.Conv2d):
    r"""A convolution whose kernel and bias are an average of experts.

    .. math:: W = \sum_i \pi_i W_i, \quad b = \sum_i \pi_i b_i, \quad
        \pi = \text{softmax}(\text{fc2}(\text{relu}(\text{fc1}(
        \text{mean}(x)))) / T)

    Source: arXiv 1912.03458. The average is weighted per image. Pretrained
    weights start exactly at the plain convolution: each expert is a copy of
    the plain kernel, so it does not matter what each weighs. That stays
    random, so the experts part with the first step.

    Args:
        **kwargs: As of :class:`mmkdna.unit_conv.UnitConv`, with the
            options of :class:`DyConvOptions`.

    Attributes:
        fc1 (nn.Linear): Reduces the channels; without bias.
        fc2 (nn.Linear): Gives the logits of the experts.
        bias (nn.Parameter | None): Of a dynamic convolution, shape
            (K, C_out).
    """
    options_type = DyConvOptions
    options: DyConvOptions
    fc1: nn.Linear
    fc2: nn.Linear

    def become_dynamic(self) -> None:
        """Get experts and the layers that weigh them."""
        number = self.options.num_experts
        hidden = max(self.in_channels // self.options.reduction, 1)
        self.fc1 = self.adopt(nn.Linear(self.in_channels, hidden, bias=False))
        self.fc2 = self.adopt(nn.Linear(hidden, number))
        self.start_annealing()
        self.make_experts(number)
        if self.bias is not None:
            self.bias = nn.Parameter(self.bias.detach().repeat(number, 1),
                                     self.bias.requires_grad)

    def attention(self, x: Tensor) -> Tensor:
        """Weigh the experts.

        Args:
            x (Tensor): Shape (N, C_in, H, W).

        Returns:
            Tensor: Shape (N, K), above 0 and adding up to 1.
        """
        logits = self.fc2(F.relu(self.fc1(x.mean((2, 3)))))
        return torch.softmax(
            logits / self.temperature(self.options.temperature), 1)

    def forward_dynamic(self, x: Tensor) -> Tensor:
        """Convolve each image with its average of the experts."""
        attention = self.attention(x)
        biases = None if self.bias is None else mix(attention, self.bias)
        return conv_per_image(self, x, mix(attention, self.experts), biases)

    def plain_start(self, weight: Tensor) -> dict[str, Tensor]:
        """Start exactly at the plain convolution."""
        return {
            'experts': weight.repeat(len(self.experts), 1, 1, 1, 1),
            'progress': torch.zeros_like(self.progress),
            'fc1.weight': self.fc1.weight.detach(),
            'fc2.weight': self.fc2.weight.detach(),
            'fc2.bias': self.fc2.bias.detach()
        }

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str,
                              *args: Any) -> None:
        key = f'{prefix}bias'
        if (self.dynamic and key in state_dict
                and state_dict[key].shape == (self.out_channels, )):
            state_dict[key] = state_dict[key].repeat(self.options.num_experts,
                                                     1)
        super()._load_from_state_dict(state_dict, prefix, *args)
