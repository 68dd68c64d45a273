"""A convolution whose modulated input and kernel are not kept for backward."""
from __future__ import annotations
from typing import Any, Optional, Sequence, Tuple

import torch
from torch import Tensor
from torch.nn import functional as F

# Before torch 2.3, the second is the only one.
_is_compiling = getattr(torch.compiler, 'is_compiling',
                        torch._utils.is_compiling)


def modulated_conv2d(x: Tensor, gate: Tensor | None, weight: Tensor,
                     factors: Tensor | None, bias: Tensor | None,
                     stride: Sequence[int], padding: Sequence[int],
                     dilation: Sequence[int], groups: int) -> Tensor:
    """Compute ``conv2d(x * gate, weight * factors, bias)``.

    Where gradients are asked for, what is kept for backward are the input, the
    gate, the kernel and the factors, of which the network has the two large
    ones anyway; both products are computed again. Gradients of second order
    are there as well. While a graph is captured (``torch.compile``, export,
    trace), these are the ordinary operations.

    Args:
        x (Tensor): Shape (N, C_in, H, W).
        gate (Tensor, optional): Shape (N, C_in, 1, 1). None stands for ones.
        weight (Tensor): Shape (C_out, C_in / groups, kH, kW).
        factors (Tensor, optional): Of a shape that broadcasts to that of the
            kernel. None stands for ones.
        bias (Tensor, optional): Shape (C_out, ).
        stride (Sequence[int]): Stride in height and width.
        padding (Sequence[int]): Zeros around height and width.
        dilation (Sequence[int]): Dilation in height and width.
        groups (int): Groups of channels.

    Returns:
        Tensor: Shape (N, C_out, H', W').
    """
    compute = (
        _ModulatedConv2d.apply
        if torch.is_grad_enabled() and not torch.jit.is_tracing()
        and not _is_compiling() else _ModulatedConv2d.forward)
    return compute(x, gate, weight, factors, bias, stride, padding, dilation,
                   groups)


def product(tensor: Tensor, factors: Tensor | None) -> Tensor:
    """Multiply by factors that there may be.

    Args:
        tensor (Tensor): Any tensor.
        factors (Tensor, optional): Of a shape that broadcasts to that of the
            tensor. None stands for ones.

    Returns:
        Tensor: The product; the tensor itself without factors.
    """
    return tensor if factors is None else tensor * factors


class _ModulatedConv2d(torch.autograd.Function):
    """See :func:`modulated_conv2d`."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x: Tensor, gate: Optional[Tensor], weight: Tensor,
                factors: Optional[Tensor], bias: Optional[Tensor], *options:
                Any) -> Tensor:
        return F.conv2d(
            product(x, gate), product(weight, factors), bias, *options)

    @staticmethod
    def setup_context(ctx: Any, inputs: Tuple[Any, ...],
                      output: Tensor) -> None:
        *tensors, bias, stride, padding, dilation, groups = inputs
        ctx.save_for_backward(*tensors)
        # Neither transposed nor with a padding of the output.
        ctx.arguments = (None if bias is None else list(bias.shape), stride,
                         padding, dilation, False, (0, 0), groups)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> Tuple[Optional[Tensor], ...]:
        x, gate, weight, factors = ctx.saved_tensors
        need = ctx.needs_input_grad
        # Autocast lets a convolution compute in the type of its output.
        grad_input, grad_kernel, grad_bias = (
            torch.ops.aten.convolution_backward(
                grad,
                product(x, gate).to(grad.dtype),
                product(weight, factors).to(grad.dtype), *ctx.arguments,
                (need[0] or need[1], need[2] or need[3], need[4])))
        return (product(grad_input, gate) if need[0] else None,
                _grad_of_factor(grad_input, x, gate) if need[1] else None,
                product(grad_kernel, factors) if need[2] else None,
                _grad_of_factor(grad_kernel, weight, factors)
                if need[3] else None, grad_bias, None, None, None, None)


def _grad_of_factor(grad: Tensor, tensor: Tensor, factor: Tensor) -> Tensor:
    """The gradient of a factor, from that of its product with a tensor."""
    return (grad * tensor).sum_to_size(factor.shape)
