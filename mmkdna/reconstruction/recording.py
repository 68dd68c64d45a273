"""What goes into a part of a network, and what is to come out, on disk."""
from __future__ import annotations
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Callable, Iterator, NamedTuple, Sequence

import torch
from mmengine.dist import all_reduce
from torch import Tensor, nn

from .batches import Batches
from .parts import Part

Forward = Callable[[Any, Tensor], Any]


class Call(NamedTuple):
    """A call of a part in a forward.

    Attributes:
        x (Tensor): What the part gets in the network that shares.
        plain_x (Tensor): What it gets in the plain one.
        target (Tensor): What it gives in the plain one.
    """
    x: Tensor
    plain_x: Tensor
    target: Tensor


class Recording:
    """The calls of a part, in a file for each batch.

    Args:
        files (Sequence[Path]): The files.
        device (torch.device): Where calls are to be.
    """

    def __init__(self, files: Sequence[Path], device: torch.device) -> None:
        self.files = list(files)
        self.device = device

    def batch(self, number: int) -> list[Call]:
        """Read the calls of a batch.

        Args:
            number (int): Its number.

        Returns:
            list[Call]: One for each time that a forward calls the part.
        """
        loaded = torch.load(
            self.files[number], map_location=self.device, weights_only=True)
        return [Call(*tensors) for tensors in loaded]

    def __len__(self) -> int:
        """int: Number of batches."""
        return len(self.files)

    def __iter__(self) -> Iterator[Call]:
        for number in range(len(self)):
            yield from self.batch(number)

    def variance(self) -> float:
        """float: Of the targets around their means, the mean over channels."""
        sums: Any = 0
        for call in self:
            flat = call.target.transpose(0, 1).flatten(1).double()
            ones = flat.new_full((flat.shape[0], ), flat.shape[1])
            sums = sums + torch.stack([ones, flat.sum(1), flat.pow(2).sum(1)])
        all_reduce(sums)
        count, total, squares = sums
        # Zero where a part gives the same everywhere.
        return max(
            float((squares / count - (total / count).pow(2)).mean()), 1e-12)


class Enough(Exception):
    """Ends a forward of which nothing more is wanted."""


@torch.no_grad()
def record(model: nn.Module, plain: nn.Module, part: Part, batches: Batches,
           forward: Forward, folder: Path) -> Recording:
    """Run both networks up to a part, and write what it gets and gives.

    Args:
        model (nn.Module): The network that shares, in eval mode.
        plain (nn.Module): The plain one.
        part (Part): The part.
        batches (Batches): Pictures, shape (N, 3, H, W).
        forward (callable): Runs either network on a batch.
        folder (Path): Where to, made for it; one file for each batch.

    Returns:
        Recording: What was written.

    Raises:
        ValueError: If something of it is not a finite number.
    """
    device = next(model.parameters()).device

    def calls() -> Iterator[list[Call]]:
        for number in range(len(batches)):
            # A copy, since a forward may write to what it is given.
            ours, theirs = (
                _calls(network, part, forward,
                       batches[number].to(device, copy=True))
                for network in (model, plain))
            yield [
                Call(x, plain_x, target)
                for (x, _), (plain_x, target) in zip(ours, theirs)
            ]

    return _write(calls(), part, folder, device)


@torch.no_grad()
def record_next(recording: Recording, before: nn.Module, plain: nn.Module,
                part: Part, folder: Path) -> Recording:
    """Write what a part gets and gives that reads what another one gives.

    Args:
        recording (Recording): That of the other part.
        before (nn.Module): The other part, as it is by now.
        plain (nn.Module): The part itself, in the plain network.
        part (Part): The part.
        folder (Path): Where to.

    Returns:
        Recording: What was written.

    Raises:
        ValueError: If something of it is not a finite number.
    """

    def calls() -> Iterator[list[Call]]:
        for number in range(len(recording)):
            yield [
                Call(before(call.x), call.target, plain(call.target.clone()))
                for call in recording.batch(number)
            ]

    return _write(calls(), part, folder, recording.device)


def _write(batches: Iterator[list[Call]], part: Part, folder: Path,
           device: torch.device) -> Recording:
    """Write calls, unless something in them is no finite number."""
    folder.mkdir(parents=True)
    files = []
    for number, calls in enumerate(batches):
        for call in calls:
            for what, tensor in call._asdict().items():
                if not tensor.isfinite().all():
                    raise ValueError(
                        f'{part.name}: '
                        f'{"its output" if what == "target" else "its input"} '
                        f'in the {"sharing" if what == "x" else "plain"} '
                        'network has values that are no finite numbers: look '
                        'at the checkpoint and at the pictures')
        files.append(folder / f'{number}.pt')
        torch.save([tuple(call) for call in calls], files[-1])
    return Recording(files, device)


def _calls(network: nn.Module, part: Part, forward: Forward,
           batch: Tensor) -> list[tuple[Tensor, Tensor]]:
    """Run a network up to a part, and note what it gets and gives."""
    inputs: list[Tensor] = []
    outputs: list[Tensor] = []

    def note(output: Tensor) -> None:
        outputs.append(output.clone())
        if len(outputs) == part.calls:
            raise Enough

    module = network.get_submodule(part.name)
    with ExitStack() as stack:
        for handle in (module.register_forward_pre_hook(
                lambda _, args: inputs.append(args[0].clone())),
                       module.register_forward_hook(
                           lambda _, args, output: note(output))):
            stack.callback(handle.remove)
        with suppress(Enough):
            forward(network, batch)
    return list(zip(inputs, outputs))
