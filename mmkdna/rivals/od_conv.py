"""ODConv: kernels weighed along each of their dimensions."""
from __future__ import annotations
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..pooled_norm import normalize_pooled
from .annealed import AnnealedExpertConv, AnnealedExpertOptions
from .mixing import conv_per_image, mix

# The attention reduces to no fewer channels.
FEWEST_CHANNELS = 16


@dataclass(frozen=True)
class ODConvOptions(AnnealedExpertOptions):
    """Options of one ``ODConv`` convolution, beside which take part.

    Args:
        num_experts (int): Kernels that are mixed. Defaults to 1.
        reduction (int): The attention reduces to
            ``max(in_channels // reduction, 16)`` channels. Defaults to 16.
        temperature (float): What the logits of all attentions are divided by
            at the start; :class:`mmkdna.rivals.TemperatureHook` lowers it to
            1. Without the hook it stays, so set 1 then, as the paper does for
            detection. Defaults to 30.
    """
    conv_type: ClassVar[str] = 'ODConv'


class ODAttention(nn.Module):
    """Four attentions from one pooled input.

    Between ``fc`` and the heads the norm sees one value per channel and
    image; :func:`mmkdna.pooled_norm.normalize_pooled` says what becomes of a
    single image.

    Args:
        channels (int): Channels of the input, ``C``.
        hidden (int): Channels behind ``fc``.
        sizes (dict[str, int]): Values that each attention has by its name,
            one of 'channel', 'filter', 'spatial' and 'kernel'.
    """

    def __init__(self, channels: int, hidden: int, sizes: dict[str,
                                                               int]) -> None:
        super().__init__()
        self.fc = nn.Linear(channels, hidden, bias=False)
        self.norm = nn.BatchNorm2d(hidden)
        heads = {name: nn.Linear(hidden, n) for name, n in sizes.items()}
        self.heads = nn.ModuleDict(heads)
        for layer in (self.fc, *heads.values()):
            nn.init.kaiming_normal_(layer.weight, mode='fan_out')
        for head in heads.values():
            nn.init.zeros_(head.bias)

    def forward(self, x: Tensor, temperature: Tensor) -> dict[str, Tensor]:
        """Compute them.

        Args:
            x (Tensor): Shape (N, C, H, W).
            temperature (Tensor): Divides all logits, shape ().

        Returns:
            dict[str, Tensor]: Shape (N, size) by name. Those of 'kernel' add
            up to 1, all others are in (0, 1).
        """
        hidden = self.fc(x.mean((2, 3)))[:, :, None, None]
        hidden = F.relu(normalize_pooled(self.norm, hidden)).flatten(1)
        return {
            name:
            torch.softmax(head(hidden) / temperature, 1)
            if name == 'kernel' else torch.sigmoid(head(hidden) / temperature)
            for name, head in self.heads.items()
        }


class ODConv2d(AnnealedExpertConv, nn.Conv2d):
    r"""A convolution whose experts are weighed along all dimensions.

    .. math:: W = \sum_i \alpha_{w,i} \cdot \alpha_f \cdot \alpha_c \cdot
        \alpha_s \cdot W_i

    Source: arXiv 2209.07947. :math:`\alpha_w` weighs the experts and adds up
    to one, :math:`\alpha_f` the filters, :math:`\alpha_c` the input channels
    and :math:`\alpha_s` the positions of the kernel; the last three are
    common to the experts. A single expert has no :math:`\alpha_w`, a
    depthwise convolution no :math:`\alpha_f`, a 1x1 kernel no
    :math:`\alpha_s`.

    Pretrained weights start exactly at the plain convolution: the heads of
    :math:`\alpha_f`, :math:`\alpha_c` and :math:`\alpha_s` are zero, so these
    are 0.5 each, and each expert is the plain kernel, doubled for each of the
    three that there are. :math:`\alpha_w` stays random, so the experts part
    with the first step. Where the kernel is doubled three times, SGD moves
    what is computed 64 times more slowly, until the attentions rise.

    Args:
        **kwargs: As of :class:`mmkdna.unit_conv.UnitConv`, with the
            options of :class:`ODConvOptions`.

    Attributes:
        attention (ODAttention): Of a dynamic convolution.
    """
    options_type = ODConvOptions
    options: ODConvOptions
    attention: ODAttention

    def become_dynamic(self) -> None:
        """Get experts and the attentions that weigh them."""
        options = self.options
        sizes = dict(channel=self.in_channels)
        if not self.groups == self.in_channels == self.out_channels:
            sizes['filter'] = self.out_channels
        if max(self.kernel_size) > 1:
            sizes['spatial'] = self.kernel_size[0] * self.kernel_size[1]
        if options.num_experts > 1:
            sizes['kernel'] = options.num_experts
        hidden = max(self.in_channels // options.reduction, FEWEST_CHANNELS)
        self.attention = self.adopt(
            ODAttention(self.in_channels, hidden, sizes))
        self.start_annealing()
        self.make_experts(options.num_experts)

    def forward_dynamic(self, x: Tensor) -> Tensor:
        """Convolve each image with its own kernel.

        The attentions of channels and filters act on input and output, which
        is the same. Without the other two all images have one kernel.
        """
        attention = self.attention(x,
                                   self.temperature(self.options.temperature))
        x = x * attention['channel'][:, :, None, None]
        if 'kernel' in attention or 'spatial' in attention:
            out = conv_per_image(self, x, self._kernels(attention))
        else:
            out = nn.Conv2d._conv_forward(self, x, self.experts[0], None)
        if 'filter' in attention:
            out = out * attention['filter'][:, :, None, None]
        return out if self.bias is None else out + self.bias[:, None, None]

    def _kernels(self, attention: dict[str, Tensor]) -> Tensor:
        """Shape (N, C_out, C_in / groups, kH, kW)."""
        kernels: Tensor = self.experts
        if 'kernel' in attention:
            kernels = mix(attention['kernel'], kernels)
        if 'spatial' in attention:
            factor = attention['spatial'].view(-1, 1, 1, *self.kernel_size)
            kernels = kernels * factor
        return kernels

    def plain_start(self, weight: Tensor) -> dict[str, Tensor]:
        """Start exactly at the plain convolution."""
        doubled = [name for name in self.attention.heads if name != 'kernel']
        start = {
            f'attention.{key}': value.detach()
            for key, value in self.attention.state_dict().items()
        }
        for name in doubled:
            for key in ('weight', 'bias'):
                key = f'attention.heads.{name}.{key}'
                start[key] = torch.zeros_like(start[key])
        experts = weight.repeat(len(self.experts), 1, 1, 1, 1)
        return dict(
            start,
            experts=experts * 2**len(doubled),
            progress=torch.zeros_like(self.progress))
