"""What two networks give for the same pictures, compared."""
from __future__ import annotations
from typing import Any, Iterator, Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from .recording import Forward


@torch.no_grad()
def compare_outputs(model: nn.Module, plain: nn.Module,
                    batches: Sequence[Tensor], numbers: Sequence[int],
                    forward: Forward) -> tuple[float, float | None]:
    """Compare what a network gives with what the plain one does.

    Args:
        model (nn.Module): The network that shares, in eval mode.
        plain (nn.Module): The plain one.
        batches (Sequence[Tensor]): Pictures, shape (N, 3, H, W).
        numbers (Sequence[int]): Which of the batches.
        forward (callable): Runs either network on a batch.

    Returns:
        tuple[float, float | None]: The mean squared difference over the
        variance, of all outputs together; and how often the largest channel is
        that of the plain network, None where there is more than one output.

    Raises:
        ValueError: If something of it is not a finite number.
    """
    device = next(model.parameters()).device
    # Of each output and channel: places, the sum of values and of squares in
    # the plain network, and the sum of squared differences.
    outputs: list[Tensor] = []
    agreeing = torch.zeros(2, dtype=torch.float64)
    single = True
    for number in numbers:
        ours, theirs = (
            forward(network, batches[number].to(device, copy=True))
            for network in (model, plain))
        single = single and torch.is_tensor(theirs)
        for i, (one,
                other) in enumerate(zip(tensors_of(ours), tensors_of(theirs))):
            value = other.transpose(0, 1).flatten(1).double()
            difference = (one - other).transpose(0, 1).flatten(1).double()
            sums = torch.stack([
                torch.full_like(value, 1).sum(1),
                value.sum(1),
                value.pow(2).sum(1),
                difference.pow(2).sum(1)
            ])
            if i == len(outputs):
                outputs.append(torch.zeros_like(sums))
            outputs[i] += sums
            same = (one.argmax(1) == other.argmax(1)).double()
            agreeing += torch.stack([same.sum(),
                                     torch.ones_like(same).sum()]).to(agreeing)
    error = variance = 0.
    for sums in outputs:
        all_reduce(sums)
        places, total, squares, differences = sums
        if not sums.isfinite().all():
            network = 'sharing' if squares.isfinite().all() else 'plain'
            raise ValueError(
                f'the output of the {network} network has values that are no '
                'finite numbers: look at the checkpoint and at the pictures')
        error += float((differences / places).mean())
        variance += float((squares / places - (total / places).pow(2)).mean())
    all_reduce(agreeing)
    agreement = float(agreeing[0] / agreeing[1]) if single else None
    return error / max(variance, 1e-12), agreement


def tensors_of(outputs: Any) -> Iterator[Tensor]:
    """Find the tensors in what a model gives."""
    if torch.is_tensor(outputs):
        yield outputs
    elif isinstance(outputs, (list, tuple)):
        for output in outputs:
            yield from tensors_of(output)
