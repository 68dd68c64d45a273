"""What a child has instead of a kernel: static modulation and a gate."""
from __future__ import annotations
from typing import Any, Sequence

import torch
from mmcv.cnn import build_norm_layer
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from .modulated_conv import product
from .options import SharingOptions
from .pooled_norm import normalize_pooled

# What a static factor starts at, to make up for a gate that starts at 0.5.
NEUTRAL = 2


class ChannelGate(nn.Module):
    """One factor in (0, 1) per image and input channel.

    ``sigmoid(fc2(relu(norm(fc1(mean over H and W of x)))))``, from
    arXiv 2503.23379.

    Between ``fc1`` and ``fc2`` the norm sees one value per channel and image;
    :func:`mmkdna.pooled_norm.normalize_pooled` says what becomes of a single
    image. ``fc2`` starts at zero, so that the gate starts at 0.5 for all
    channels and images; the default start of a linear layer would be a gate of
    random factors, from which short schedules do not come away.

    Args:
        channels (int): Channels of the input, ``C``.
        reduced_channels (int): Channels between the two linear layers.
        norm_cfg (dict, optional): Config of the norm between them.

    Raises:
        ValueError: If that norm cannot be made for these channels.
    """

    def __init__(self, channels: int, reduced_channels: int,
                 norm_cfg: dict[str, Any] | None) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, reduced_channels, bias=False)
        self.norm = _build_norm(norm_cfg, reduced_channels)
        self.fc2 = nn.Linear(reduced_channels, channels)
        nn.init.zeros_(self.fc2.weight)
        nn.init.zeros_(self.fc2.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Compute the gate of an input.

        Args:
            x (Tensor): Input of the convolution, shape (N, C, H, W).

        Returns:
            Tensor: The gate, shape (N, C, 1, 1).
        """
        squeezed = self.fc1(x.mean((2, 3)))
        if not isinstance(self.norm, nn.Identity):
            pooled = squeezed[:, :, None, None]
            squeezed = normalize_pooled(self.norm, pooled).flatten(1)
        # In place: no backward wants what these two are given.
        return self.fc2(squeezed.relu_()).sigmoid_()[:, :, None, None]

    @torch.no_grad()
    def fold_norm(self) -> None:
        """Fold a batch norm's running statistics into ``fc1``.

        Another kind of norm depends on the input and stays.
        """
        norm = self.norm
        if (not isinstance(norm, _BatchNorm) or norm.running_mean is None
                or norm.running_var is None):
            return
        fc1 = nn.Linear(self.fc1.in_features, self.fc1.out_features)
        fc1.to(self.fc1.weight).requires_grad_(self.fc1.weight.requires_grad)
        fc1.train(self.fc1.training)
        factor = (norm.running_var + norm.eps).rsqrt()
        if norm.affine:
            factor = factor * norm.weight
        fc1.weight.copy_(self.fc1.weight * factor[:, None])
        fc1.bias.copy_(-norm.running_mean * factor)
        if norm.affine:
            fc1.bias.add_(norm.bias)
        self.fc1 = fc1
        self.norm = nn.Identity()


def _build_norm(norm_cfg: dict[str, Any] | None, channels: int) -> nn.Module:
    """The norm of a gate, between its linear layers."""
    if norm_cfg is None:
        return nn.Identity()
    try:
        norm = build_norm_layer(norm_cfg, channels)[1]
    except (AssertionError, TypeError, ValueError) as error:
        raise ValueError(
            f'KernelDNA: norm_cfg={norm_cfg} is given, but a gate that '
            f'reduces to {channels} channels cannot have this norm ({error}): '
            'correct norm_cfg, change rd_ratio, or leave the convolution out '
            'with min_channels') from error
    if isinstance(norm, nn.GroupNorm) and norm.num_groups == channels:
        raise ValueError(
            f'KernelDNA: norm_cfg={norm_cfg} is given, but a gate that '
            f'reduces to {channels} channels has one number per group then, '
            'so that its norm is the same for all images: take fewer groups, '
            'raise rd_ratio, or leave the convolution out with min_channels')
    return norm


class Adapter(nn.Module):
    """Derives the kernel of one child from its parent's, and gates its input.

    It starts neutral: the child computes what its parent's kernel would, where
    there is a gate by a static factor of 2 before a gate of 0.5.

    Args:
        weight_shape (Sequence[int]): Shape of the kernel,
            (C_out, C_in / groups, kH, kW).
        in_channels (int): Channels of the child's input, ``C_in``.
        options (SharingOptions): ``rd_ratio``, ``modulation`` and
            ``norm_cfg`` count here.

    Attributes:
        filter (nn.Parameter | None): Static factor per filter, less 1,
            shape (C_out, 1, 1, 1). Starts at 1, without a gate at 0.
        spatial (nn.Parameter | None): Static factor per kernel position,
            less 1, shape (1, 1, kH, kW). Starts at 0, with a gate but no
            filter factors at 1. A 1x1 kernel has none.
        gate (ChannelGate | None): The dynamic factor per input channel.

    Raises:
        ValueError: If ``rd_ratio`` leaves the gate no channel, or its norm
            does not fit its channels.
    """

    def __init__(self, weight_shape: Sequence[int], in_channels: int,
                 options: SharingOptions) -> None:
        super().__init__()
        out_channels, _, *kernel_size = weight_shape
        self.filter = self.spatial = self.gate = None
        start = NEUTRAL - 1. if 'channel' in options.modulation else 0.
        if 'filter' in options.modulation:
            self.filter = nn.Parameter(
                torch.full((out_channels, 1, 1, 1), start))
            start = 0.
        if 'spatial' in options.modulation and max(kernel_size) > 1:
            self.spatial = nn.Parameter(
                torch.full((1, 1, *kernel_size), start))
        if 'channel' in options.modulation:
            self.gate = ChannelGate(
                in_channels,
                reduced_channels(in_channels, out_channels, options.rd_ratio),
                options.norm_cfg)

    def factors(self) -> Tensor | None:
        """Multiply the static factors.

        Returns:
            Tensor | None: ``(1 + filter) * (1 + spatial)``, of a shape that
            broadcasts to that of the kernel; None without either.
        """
        factors = [
            1 + factor for factor in (self.filter, self.spatial)
            if factor is not None
        ]
        if len(factors) == 2:
            return factors[0] * factors[1]
        return factors[0] if factors else None

    def derive(self, weight: Tensor) -> Tensor:
        """Derive the child's kernel.

        Args:
            weight (Tensor): The parent's kernel,
                shape (C_out, C_in / groups, kH, kW).

        Returns:
            Tensor: ``weight * (1 + filter) * (1 + spatial)``, of that shape.
        """
        return product(weight, self.factors())

    def modulate(self, x: Tensor) -> Tensor:
        """Gate the child's input.

        Args:
            x (Tensor): Shape (N, C_in, H, W).

        Returns:
            Tensor: ``x`` times the gate, of that shape.
        """
        return x if self.gate is None else x * self.gate(x)


def reduced_channels(in_channels: int, out_channels: int,
                     rd_ratio: float) -> int:
    """Count the channels between the two linear layers of a gate.

    Args:
        in_channels (int): Input channels of the convolution.
        out_channels (int): Output channels of the convolution.
        rd_ratio (float): Reduction ratio.

    Returns:
        int: ``int(min(in_channels, out_channels) * rd_ratio)``.

    Raises:
        ValueError: If that is less than 1.
    """
    fewest = min(in_channels, out_channels)
    reduced = int(fewest * rd_ratio)
    if reduced < 1:
        raise ValueError(
            f'KernelDNA: rd_ratio={rd_ratio} is given, but a gate over '
            f'{in_channels} input and {out_channels} output channels keeps a '
            f'channel only from rd_ratio={1 / fewest:.4g} on: raise rd_ratio, '
            f'or leave out narrow convolutions with min_channels')
    return reduced
