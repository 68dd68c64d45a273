"""A 1x1 convolution and its norm, solved instead of trained."""
from __future__ import annotations
from typing import Any

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

# What holds a solution at the map that there is, as parts of the mean variance
# of a feature.
RIDGES = 1e-3, 1e-2, 1e-1, 1.


class Moments:
    """First and second moments of features and targets, over all batches."""

    def __init__(self) -> None:
        # Of a one, the features and the targets, in this order, in float64.
        self.sums = torch.zeros(())

    def add(self, features: Tensor, target: Tensor,
            stride: tuple[int, int]) -> None:
        """Add those of a batch.

        Args:
            features (Tensor): What a 1x1 convolution reads, shape
                (N, C, H, W).
            target (Tensor): What its norm is to give, shape (N, D, H', W').
            stride (tuple[int]): Stride of the convolution.
        """
        features = features[..., ::stride[0], ::stride[1]]
        both = torch.cat([features, target], 1).transpose(0, 1).flatten(1)
        both = torch.cat([both.new_ones(1, both.shape[1]), both]).double()
        self.sums = self.sums + both @ both.t()

    def solve(self, conv: nn.Conv2d, norm: Any, choosing: Moments) -> None:
        """Give a 1x1 convolution and its norm the least-squares solution.

        Of what the two give together, as a linear map of the features. What
        holds the solution at the map that there is, is chosen from
        :data:`RIDGES` by other moments, and the map stays if it is better than
        all. The norm's statistics become those of what it reads, and its
        factor and bias undo them, but for the mean of the targets. With
        several processes the moments of all count.

        Args:
            conv (nn.Conv2d): Reads the features; changed in place.
            norm (_BatchNorm): Gives the targets; changed in place.
            choosing (Moments): Of what is not solved for.
        """
        for moments in (self, choosing):
            all_reduce(moments.sums)
        count = self.sums[0, 0]
        mean = self.sums[0, 1:] / count
        covariance = self.sums[1:, 1:] / count - mean[:, None] * mean
        split = conv.in_channels
        gram, cross = covariance[:split, :split], covariance[:split, split:]
        factor = norm.weight / (norm.running_var + norm.eps).sqrt()
        before = (conv.weight.flatten(1) * factor[:, None]).to(gram)
        bias = (norm.bias - norm.running_mean * factor).to(gram)
        best = choosing.error(before, bias)
        solution = None
        for ridge in RIDGES:
            # Features that are all zero have a solution, too.
            held = ridge * gram.diagonal().mean().clamp(min=1e-12)
            found = torch.linalg.solve(gram + held * torch.eye(split).to(gram),
                                       cross + held * before.t()).t()
            error = choosing.error(found, mean[split:] - found @ mean[:split])
            if error < best:
                best, solution = error, found
        if solution is None:
            return
        variance = (solution @ gram * solution).sum(1)
        conv.weight.copy_(solution[:, :, None, None])
        norm.running_mean.copy_(solution @ mean[:split])
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean[split:])

    def error(self, weight: Tensor, bias: Tensor) -> float:
        """Compute the mean squared error of a linear map.

        Args:
            weight (Tensor): Shape (D, C).
            bias (Tensor): Shape (D, ).

        Returns:
            float: The squares of a place summed over D, the mean of places.
        """
        difference = torch.cat(
            [-bias[:, None], -weight,
             torch.eye(len(bias)).to(weight)], 1)
        squares = (difference @ self.sums * difference).sum()
        return float(squares / self.sums[0, 0])
