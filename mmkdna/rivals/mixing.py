"""Kernels mixed for each image, and the convolution with them."""
from __future__ import annotations
from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F


def mix(attention: Tensor, experts: Tensor) -> Tensor:
    """Add up experts for each image.

    Args:
        attention (Tensor): Weight of each expert, shape (N, K).
        experts (Tensor): Shape (K, ...).

    Returns:
        Tensor: Shape (N, ...), the sums of attention times expert.
    """
    return (attention @ experts.flatten(1)).view(-1, *experts.shape[1:])


def conv_per_image(conv: nn.Conv2d,
                   x: Tensor,
                   kernels: Tensor,
                   biases: Tensor | None = None) -> Tensor:
    """Convolve each image with a kernel of its own.

    One grouped convolution does it, in which each image is a group, or as
    many as ``conv`` has.

    Args:
        conv (nn.Conv2d): Gives stride, padding, dilation and groups.
        x (Tensor): Shape (N, C_in, H, W); N may be 0.
        kernels (Tensor): Shape (N, C_out, C_in / groups, kH, kW).
        biases (Tensor, optional): Shape (N, C_out) or (C_out, ), the same for
            all. Defaults to None, no bias.

    Returns:
        Tensor: Shape (N, C_out, H', W').
    """
    number = len(x)
    padding: Any = conv.padding
    if conv.padding_mode != 'zeros':
        x = F.pad(
            x, conv._reversed_padding_repeated_twice, mode=conv.padding_mode)
        padding = 0
    if number == 0:
        # A group needs an image; the sum keeps gradients where DDP waits.
        kernel = kernels.new_zeros(kernels.shape[1:]) + kernels.sum(0)
        out = F.conv2d(x, kernel, None, conv.stride, padding, conv.dilation,
                       conv.groups)
        return out if biases is None else out + biases.sum()
    out = F.conv2d(
        x.reshape(1, -1, *x.shape[2:]), kernels.flatten(0, 1), None,
        conv.stride, padding, conv.dilation, number * conv.groups)
    out = out.view(number, -1, *out.shape[2:])
    if biases is None:
        return out
    return out + biases.view(-1, conv.out_channels, 1, 1)
