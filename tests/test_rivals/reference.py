"""The rivals' formulas in float64, written from the papers, image by image."""
import functools
import math

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


def pooled(x):
    """The mean of each channel of each image, shape (N, C)."""
    return x.sum((2, 3)) / (x.shape[2] * x.shape[3])


def sigmoid(logits):
    return 1 / (1 + (-logits).exp())


def softmax(logits):
    powers = logits.exp()
    return powers / powers.sum()


def dy_conv(conv, x, temperature):
    """DyConv, arXiv 1912.03458, in float64.

    Args:
        conv (DyConv2d): Gives weights.
        x (Tensor): Shape (N, C, H, W).
        temperature (float): Of the softmax.
    """
    out = []
    for image, mean in zip(x, pooled(x)):
        hidden = conv.fc1.weight @ mean
        hidden = hidden * (hidden > 0)
        logits = conv.fc2.weight @ hidden + conv.fc2.bias
        kernel = bias = 0
        for i, weight in enumerate(softmax(logits / temperature)):
            kernel = kernel + weight * conv.experts[i]
            bias = None if conv.bias is None else bias + weight * conv.bias[i]
        out.append(convolve(conv, image, kernel, bias))
    return torch.stack(out)


def se_conv(conv, x):
    """A plain convolution of a gated input, arXiv 1709.01507, in float64."""
    out = []
    for image, mean in zip(x, pooled(x)):
        hidden = conv.fc1.weight @ mean + conv.fc1.bias
        hidden = hidden * (hidden > 0)
        gate = sigmoid(conv.fc2.weight @ hidden + conv.fc2.bias)
        gated = image * gate[:, None, None]
        out.append(convolve(conv, gated, conv.weight, conv.bias))
    return torch.stack(out)


def od_conv(conv, x, temperature, running=False):
    """ODConv, arXiv 2209.07947, in float64.

    Args:
        conv (ODConv2d): Gives weights.
        x (Tensor): Shape (N, C, H, W).
        temperature (float): Of all four attentions.
        running (bool): Whether the norm uses its running statistics, not
            those of the batch. Defaults to False.
    """
    norm, heads = conv.attention.norm, conv.attention.heads
    hidden = pooled(x) @ conv.attention.fc.weight.T
    mean, var = norm.running_mean, norm.running_var
    if not running:
        mean = hidden.sum(0) / len(hidden)
        var = ((hidden - mean)**2).sum(0) / len(hidden)
    hidden = (hidden - mean) / (var + norm.eps)**0.5
    hidden = hidden * norm.weight + norm.bias
    hidden = hidden * (hidden > 0)
    filters, inputs, height, width = conv.experts.shape[1:]
    out = []
    for image, seen in zip(x, hidden):
        logits = {
            name: (head.weight @ seen + head.bias) / temperature
            for name, head in heads.items()
        }
        kernel = conv.experts[0]
        if 'kernel' in logits:
            kernel = sum(weight * expert for weight, expert in zip(
                softmax(logits['kernel']), conv.experts))
        if 'filter' in logits:
            kernel = kernel * sigmoid(logits['filter'])[:, None, None, None]
        if 'spatial' in logits:
            kernel = kernel * sigmoid(logits['spatial']).view(height, width)
        # A filter sees the channels of its group.
        channel = sigmoid(logits['channel']).view(conv.groups, inputs)
        channel = channel.repeat_interleave(filters // conv.groups, 0)
        kernel = kernel * channel[:, :, None, None]
        out.append(convolve(conv, image, kernel, conv.bias))
    return torch.stack(out)


def kernel_warehouse(conv, x, sharing=None):
    """KernelWarehouse, arXiv 2308.08361, for cells of the greatest size.

    Args:
        conv (KernelWarehouse2d): Gives weights, in float64.
        x (Tensor): Shape (N, C, H, W).
        sharing (list, optional): The convolutions of its warehouse, in
            forward order. Defaults to None, ``conv`` alone.
    """
    sharing = sharing or [conv]
    shapes = [(c.out_channels, c.in_channels // c.groups, *c.kernel_size)
              for c in sharing]
    high = functools.reduce(math.gcd, [shape[0] for shape in shapes])
    wide = functools.reduce(math.gcd, [shape[1] for shape in shapes])
    place, tau = sharing.index(conv), 1 - conv.progress
    mixtures = [math.prod(shape) // (high * wide) for shape in shapes]
    cells = next(c for c in sharing if 'cells' in c._parameters).cells
    attention = conv.attention
    hidden = x.mean((2, 3)) @ attention.fc1.weight.T
    norm = attention.norm
    if norm.training and len(x) > 1:
        mean, var = hidden.mean(0), hidden.var(0, unbiased=False)
    else:
        mean, var = norm.running_mean, norm.running_var
    hidden = (hidden - mean) / (var + norm.eps).sqrt()
    hidden = (hidden * norm.weight + norm.bias).clamp(min=0)
    out = []
    for image, squeezed in zip(x, hidden):
        z = attention.fc2.weight @ squeezed + attention.fc2.bias
        z = z.view(mixtures[place], len(cells) + 1)
        kernel = torch.zeros(shapes[place], dtype=x.dtype)
        number = 0
        for row in range(0, shapes[place][0], high):
            for column in range(0, shapes[place][1], wide):
                for i in range(shapes[place][2]):
                    for j in range(shapes[place][3]):
                        logits = z[number]
                        own = (sum(mixtures[:place]) + number) % len(cells)
                        weights = logits / (logits.abs().sum() + 1e-3)
                        part = (weights[:-1, None, None] * cells).sum(0)
                        part = (1 - tau) * part + tau * cells[own]
                        kernel[row:row + high, column:column + wide, i,
                               j] = part
                        number += 1
        out.append(convolve(conv, image, kernel, conv.bias))
    return torch.stack(out)
