"""CondConv: kernels mixed by sigmoid weights."""
from __future__ import annotations
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..hosts import block_name
from ..options import LayerChoice
from .mixing import conv_per_image, mix
from .rival import ExpertConv

ROUTINGS = ('conv', 'block')


@dataclass(frozen=True)
class CondConvOptions(LayerChoice):
    """Options of one ``CondConv`` convolution, beside which take part.

    Args:
        num_experts (int): Kernels that are mixed. Defaults to 8.
        routing (str): 'conv' computes the weights of the experts from each
            convolution's own input, 'block' once for all convolutions of a
            block that take part, from the input of the first. Defaults to
            'conv'.
    """
    conv_type: ClassVar[str] = 'CondConv'

    num_experts: int = 8
    routing: str = 'conv'

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require_int('num_experts', 1)
        self._require(self.routing in ROUTINGS, 'routing',
                      f'one of {ROUTINGS}')


class CondConv2d(ExpertConv, nn.Conv2d):
    r"""A convolution whose kernel is a sum of experts, weighted per image.

    .. math:: W = \sum_i r_i W_i, \quad r = \sigma(\text{fc}(\text{mean}(x)))

    Source: arXiv 1904.04971. The weights do not add up to one. Pretrained
    weights start exactly at the plain convolution: ``fc`` is zero, so each
    weight is 0.5, and the experts are twice the plain kernel over their
    number, each with a deviation of its own; the deviations add up to zero.

    Args:
        **kwargs: As of :class:`mmkdna.unit_conv.UnitConv`, with the
            options of :class:`CondConvOptions`.

    Attributes:
        fc (nn.Linear | None): Gives the weights of the experts; None where
            another convolution of the block gives them.
    """
    options_type = CondConvOptions
    options: CondConvOptions
    fc: nn.Linear | None
    router: tuple[CondConv2d, ...]
    routed: Tensor
    # Of the plain kernel's standard deviation.
    deviation = 0.1

    @classmethod
    def join_taking(cls, convs: dict[str, CondConv2d]) -> None:
        """Make those dynamic that take part, and find those that route."""
        super().join_taking(convs)
        first: dict[str, CondConv2d] = {}
        for name, conv in convs.items():
            if conv.options.routing == 'block':
                router = first.setdefault(block_name(name), conv)
                if router is not conv:
                    # In a tuple it is no submodule.
                    conv.router, conv.fc = (router, ), None

    def become_dynamic(self) -> None:
        """Get experts and the layer that weighs them."""
        self.fc = self.adopt(
            nn.Linear(self.in_channels, self.options.num_experts))
        self.router: tuple[CondConv2d, ...] = ()
        self.make_experts(self.options.num_experts)

    def attention(self, x: Tensor) -> Tensor:
        """Weigh the experts.

        Args:
            x (Tensor): Shape (N, C_in, H, W).

        Returns:
            Tensor: Shape (N, K), each in (0, 1).
        """
        if self.router:
            return self.router[0].routed
        assert self.fc is not None
        self.routed = torch.sigmoid(self.fc(x.mean((2, 3))))
        return self.routed

    def __getstate__(self) -> dict[str, Any]:
        # What was computed last is in no copy and in no file.
        return dict(self.__dict__, routed=None)

    def forward_dynamic(self, x: Tensor) -> Tensor:
        """Convolve each image with its mixture of the experts."""
        kernels = mix(self.attention(x), self.experts)
        return conv_per_image(self, x, kernels, self.bias)

    def plain_start(self, weight: Tensor) -> dict[str, Tensor]:
        """Start exactly at the plain convolution."""
        number = self.options.num_experts
        # The same on every device and in every run, and adding up to zero in
        # any precision.
        noise = torch.randn(
            self.experts.shape,
            generator=torch.Generator().manual_seed(0),
            dtype=torch.float64)
        noise = (noise - noise.mean(0)) * float(weight.std() * self.deviation)
        start = dict(experts=weight * 2 / number + noise.to(weight))
        if self.fc is not None:
            for name, value in self.fc.named_parameters():
                start[f'fc.{name}'] = torch.zeros_like(value)
        return start
