"""The rivals' formulas in float64, written from the papers, image by image."""
import torch
from torch.nn import functional as F


def convolve(conv, x, kernel, bias):
    """One image, shape (C, H, W), by a padded plain convolution."""
    padding = conv.padding
    if conv.padding_mode != 'zeros':
        x = F.pad(
            x[None],
            conv._reversed_padding_repeated_twice,
            mode=conv.padding_mode)[0]
        padding = 0
    return F.conv2d(x[None], kernel, bias, conv.stride, padding, conv.dilation,
                    conv.groups)[0]


def cond_conv(conv, x, route_from=None):
    """CondConv, arXiv 1904.04971.

    Args:
        conv (CondConv2d): Gives weights, in float64.
        x (Tensor): Shape (N, C, H, W).
        route_from (tuple, optional): Convolution and input that give the
            weights of the experts. Defaults to None, ``conv`` and ``x``.
    """
    router, seen = route_from or (conv, x)
    out = []
    for image, routed in zip(x, seen):
        logits = router.fc.weight @ routed.mean((1, 2)) + router.fc.bias
        kernel = 0
        for weight, expert in zip(1 / (1 + (-logits).exp()), conv.experts):
            kernel = kernel + weight * expert
        out.append(convolve(conv, image, kernel, conv.bias))
    return torch.stack(out)
