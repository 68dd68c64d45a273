"""A child's output in float64, written from the formula alone.

``y = conv2d(x * g(x), W * (1 + f) * (1 + s)) + b`` with
``g(x) = sigmoid(fc2(relu(norm(fc1(mean over H, W of x)))))``, from
arXiv 2503.23379. Nothing of mmkdna, of ``nn`` or of the convolutions of torch
is called.
"""
import torch
from torch.nn import functional as F

EPS = 1e-5


def parameters_of(child):
    """Float64 leaves with the values a child computes with.

    Args:
        child (KernelDNAConv2d): A child.

    Returns:
        tuple[dict, dict]: Leaves by name and the child's tensors by name.
    """
    adapter = child.adapter
    given = dict(
        weight=child.parent.weight,
        bias=child.bias,
        filter=adapter.filter,
        spatial=adapter.spatial)
    if adapter.gate is not None:
        gate = adapter.gate
        given.update(
            fc1=gate.fc1.weight,
            fc2=gate.fc2.weight,
            fc2_bias=gate.fc2.bias,
            norm_weight=getattr(gate.norm, 'weight', None),
            norm_bias=getattr(gate.norm, 'bias', None),
            running_mean=getattr(gate.norm, 'running_mean', None),
            running_var=getattr(gate.norm, 'running_var', None))
    given = {n: tensor for n, tensor in given.items() if tensor is not None}
    leaves = {n: t.detach().double().clone() for n, t in given.items()}
    for name, leaf in leaves.items():
        leaf.requires_grad_(not name.startswith('running'))
    return leaves, given


def child_forward(x, p, conv, norm=None, num_groups=None):
    """A child's output.

    Args:
        x (Tensor): Float64 input, shape (N, C, H, W).
        p (dict[str, Tensor]): See :func:`parameters_of`.
        conv (nn.Conv2d): Only its hyperparameters are read.
        norm (str, optional): 'batch', 'running' or 'group': by what the gate
            normalises.
        num_groups (int, optional): Of the group norm.

    Returns:
        Tensor: Shape (N, C_out, H', W').
    """
    kernel = p['weight']
    if 'filter' in p:
        kernel = kernel + kernel * p['filter']
    if 'spatial' in p:
        kernel = kernel + kernel * p['spatial']
    if 'fc1' in p:
        x = x * gate(x, p, norm, num_groups)[:, :, None, None]
    y = correlate(x, kernel, conv)
    return y + p['bias'][None, :, None, None] if 'bias' in p else y


def gate(x, p, norm=None, num_groups=None):
    """The gate, shape (N, C)."""
    pooled = x.sum((2, 3)) / (x.shape[2] * x.shape[3])
    squeezed = torch.einsum('nc,rc->nr', pooled, p['fc1'])
    if norm is not None:
        squeezed = normalize(squeezed, p, norm, num_groups)
        squeezed = squeezed * p['norm_weight'] + p['norm_bias']
    squeezed = squeezed * (squeezed > 0)
    logits = torch.einsum('nr,cr->nc', squeezed, p['fc2']) + p['fc2_bias']
    return 1 / (1 + torch.exp(-logits))


def normalize(squeezed, p, norm, num_groups):
    """Shape (N, R), with mean 0 and variance 1 by some statistics."""
    if norm == 'running':
        mean, var = p['running_mean'], p['running_var']
    elif norm == 'batch':
        mean = squeezed.mean(0)
        var = ((squeezed - mean)**2).mean(0)
    else:
        grouped = squeezed.reshape(len(squeezed), num_groups, -1)
        mean = grouped.mean(2, keepdim=True)
        var = ((grouped - mean)**2).mean(2, keepdim=True)
        return ((grouped - mean) / (var + EPS)**0.5).reshape(squeezed.shape)
    return (squeezed - mean) / (var + EPS)**0.5


def correlate(x, kernel, conv):
    """A convolution, one kernel position at a time."""
    (height, width), (rows, columns) = conv.kernel_size, conv.stride
    down, right = conv.dilation
    reach = down * (height - 1), right * (width - 1)
    if conv.padding == 'same':
        left, top = reach[1] // 2, reach[0] // 2
        sides = (left, reach[1] - left, top, reach[0] - top)
    else:
        top, left = (0, 0) if conv.padding == 'valid' else conv.padding
        sides = (left, left, top, top)
    mode = conv.padding_mode
    x = F.pad(x, sides, 'constant' if mode == 'zeros' else mode)
    out = ((x.shape[2] - reach[0] - 1) // rows + 1,
           (x.shape[3] - reach[1] - 1) // columns + 1)
    x = x.unflatten(1, (conv.groups, -1))
    kernel = kernel.unflatten(0, (conv.groups, -1))
    y = 0
    for i in range(height):
        for j in range(width):
            seen = x[..., i * down:i * down + rows * (out[0] - 1) + 1:rows,
                     j * right:j * right + columns * (out[1] - 1) + 1:columns]
            y = y + torch.einsum('gok,ngkhw->ngohw', kernel[..., i, j], seen)
    return y.flatten(1, 2)
