"""What two networks give for the same pictures, compared."""
from __future__ import annotations
from contextlib import ExitStack
from typing import Any, Iterator

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from ..hosts import block_name
from .batches import Batches
from .parts import Part, holds
from .recording import Forward, Recording


class OutputError:
    """The error of what a network gives, over pictures.

    It is the mean squared difference to what the plain one gives, over the
    variance of that, the mean over channels; of several outputs, all together.
    """

    def __init__(self) -> None:
        # Of each output and channel: places, the sum of values and of squares
        # in the plain network, and the sum of squared differences.
        self._outputs: list[Tensor] = []

    def add(self, ours: Any, theirs: Any) -> None:
        """Add what two networks give for some pictures.

        Args:
            ours (Any): Tensors of shape (N, C, ...), or lists of them.
            theirs (Any): The same of the plain network.
        """
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
            if i == len(self._outputs):
                self._outputs.append(torch.zeros_like(sums))
            self._outputs[i] += sums

    def value(self) -> float:
        """Compute the error, of all processes together.

        Returns:
            float: The error.

        Raises:
            ValueError: If something of it is not a finite number.
        """
        error = variance = 0.
        for sums in self._outputs:
            all_reduce(sums)
            places, total, squares, differences = sums
            if not sums.isfinite().all():
                network = 'sharing' if squares.isfinite().all() else 'plain'
                raise ValueError(
                    f'the output of the {network} network has values that are '
                    'no finite numbers: look at the checkpoint and at the '
                    'pictures')
            error += float((differences / places).mean())
            variance += float(
                (squares / places - (total / places).pow(2)).mean())
        return error / max(variance, 1e-12)


@torch.no_grad()
def compare_outputs(model: nn.Module, plain: nn.Module, batches: Batches,
                    forward: Forward) -> tuple[float, float | None]:
    """Compare what a network gives with what the plain one does.

    Args:
        model (nn.Module): The network that shares, in eval mode.
        plain (nn.Module): The plain one.
        batches (Batches): Pictures, shape (N, 3, H, W).
        forward (callable): Runs either network on a batch.

    Returns:
        tuple[float, float | None]: The error, see :class:`OutputError`; and
        how often the largest channel is that of the plain network, None where
        there is more than one output.

    Raises:
        ValueError: If something of it is not a finite number.
    """
    device = next(model.parameters()).device
    error = OutputError()
    agreeing = torch.zeros(2, dtype=torch.float64)
    single = True
    for number in range(len(batches)):
        ours, theirs = (
            forward(network, batches[number].to(device, copy=True))
            for network in (model, plain))
        single = single and torch.is_tensor(theirs)
        error.add(ours, theirs)
        for one, other in zip(tensors_of(ours), tensors_of(theirs)):
            same = (one.argmax(1) == other.argmax(1)).double()
            agreeing += torch.stack([same.sum(),
                                     torch.ones_like(same).sum()]).to(agreeing)
    value = error.value()
    all_reduce(agreeing)
    return value, float(agreeing[0] / agreeing[1]) if single else None


@torch.no_grad()
def compare_children(module: nn.Module, plain: nn.Module, part: Part,
                     recording: Recording) -> dict[str, float]:
    """Compare what the block around each child of a part gives.

    Args:
        module (nn.Module): The part, in eval mode.
        plain (nn.Module): The same of the plain network.
        part (Part): What it is.
        recording (Recording): What goes into both.

    Returns:
        dict[str, float]: By name of the child, the error of its block's
        output, see :class:`OutputError`.

    Raises:
        ValueError: If something of it is not a finite number.
    """
    around = {}
    for child in part.children:
        block = block_name(child)
        inside = holds(part.name, block)
        around[child] = block[len(part.name) + 1:] if inside else ''
    errors = {child: OutputError() for child in around}
    for call in recording:
        gives = (_given(module, around,
                        call.x), _given(plain, around, call.plain_x))
        for child, error in errors.items():
            error.add(*(given[child] for given in gives))
    return {child: error.value() for child, error in errors.items()}


def _given(network: nn.Module, around: dict[str, str],
           x: Tensor) -> dict[str, list[Tensor]]:
    """Run a part, and note by child what the module around it gives."""
    given: dict[str, list[Tensor]] = {}

    def note(child: str, output: Any) -> None:
        # A copy, since what follows may write to it.
        given[child] = [tensor.clone() for tensor in tensors_of(output)]

    with ExitStack() as stack:
        for child, name in around.items():
            handle = network.get_submodule(name).register_forward_hook(
                lambda _, args, output, child=child: note(child, output))
            stack.callback(handle.remove)
        network(x.clone())
    return given


def tensors_of(outputs: Any) -> Iterator[Tensor]:
    """Find the tensors in what a model gives."""
    if torch.is_tensor(outputs):
        yield outputs
    elif isinstance(outputs, (list, tuple)):
        for output in outputs:
            yield from tensors_of(output)
