"""What the gates of children do on pictures."""
from __future__ import annotations
from dataclasses import dataclass
from typing import Any, Callable, Iterable

import torch
from torch import Tensor, nn

from ..adapter import ChannelGate
from ..forward import finite_outputs
from ..sharing import named_convs

# Below and above, a gate is said to be saturated.
SATURATED = 0.01, 0.99
# A gate that moves less from picture to picture, as a standard deviation, is
# said to be constant, if no channel of it moves by more than the second: among
# many, one that opens and closes is not seen in the first.
CONSTANT = 0.01
CONSTANT_CHANNEL = 0.05


@dataclass(frozen=True)
class GateStatistics:
    """What one gate does.

    Attributes:
        name (str): Name of the child.
        channels (int): Channels that it gates.
        mean (float): Of all its values.
        over_channels (float): Standard deviation over channels of their means.
        over_pictures (float): Standard deviation over pictures, as the root of
            the mean over channels of the variance.
        largest (float): That of the channel in which it is largest.
        dynamic (float): The share of the variance of all its values that is
            between pictures; 0 for a gate that is the same for all.
        saturated (float): The share of its values below 0.01 or above 0.99.
    """
    name: str
    channels: int
    mean: float
    over_channels: float
    over_pictures: float
    largest: float
    dynamic: float
    saturated: float

    @property
    def constant(self) -> bool:
        """bool: Whether it is the same for all pictures, but for 0.01, and for
        0.05 in every channel."""
        return (self.over_pictures < CONSTANT
                and self.largest < CONSTANT_CHANNEL)


class GateSums:
    """Sums over pictures of what one gate gives."""

    def __init__(self) -> None:
        self.count = self.saturated = 0
        self.sums = self.squares = torch.zeros(())

    def add(self, values: Tensor) -> None:
        """Add those of a batch.

        Args:
            values (Tensor): The gate, shape (N, C, 1, 1).
        """
        values = values.flatten(1).double()
        self.count += len(values)
        self.sums = self.sums + values.sum(0)
        self.squares = self.squares + values.pow(2).sum(0)
        low, high = SATURATED
        self.saturated += int(((values < low) | (values > high)).sum())

    @property
    def means(self) -> Tensor:
        """Tensor: Mean over pictures of each channel, shape (C, )."""
        return self.sums / self.count

    def statistics(self, name: str) -> GateStatistics:
        """Say what the gate does.

        Args:
            name (str): Name of its child.

        Returns:
            GateStatistics: All of it.
        """
        means = self.means
        variances = (self.squares / self.count - means.pow(2)).clamp(min=0)
        between = float(variances.mean())
        of_channels = float(means.var(correction=0))
        return GateStatistics(
            name=name,
            channels=len(means),
            mean=float(means.mean()),
            over_channels=of_channels**0.5,
            over_pictures=between**0.5,
            largest=float(variances.max())**0.5,
            dynamic=between / max(between + of_channels, 1e-300),
            saturated=self.saturated / (self.count * len(means)))


@torch.no_grad()
def watch_gates(model: nn.Module, batches: Iterable[Tensor],
                forward: Callable[[Any, Tensor], Any]) -> dict[str, GateSums]:
    """Run a model on pictures, and sum up what its gates give.

    A child that runs several times in a forward, as in a dense head over all
    levels, counts each time.

    Args:
        model (nn.Module): A linked model, in the mode it shall run in; also
            after :func:`mmkdna.switch_to_deploy`, which leaves the gates.
        batches (Iterable[Tensor]): Pictures, shape (N, 3, H, W).
        forward (callable): Runs the model on a batch, such as
            :func:`mmkdna.forward.forward_dense`.

    Returns:
        dict[str, GateSums]: By name of the child, in the order of the modules;
        without those that saw no picture.

    Raises:
        ValueError: If the model has no gate, or computes something that is no
            finite number.
    """
    gates: dict[str, ChannelGate] = {
        name: conv.adapter.gate
        for name, conv in named_convs(model).items()
        if conv.adapter is not None and conv.adapter.gate is not None
    }
    if not gates:
        raise ValueError(
            f'this {type(model).__name__} has no gate: a model is expected '
            'that has children with \'channel\' in their modulation')
    sums = {name: GateSums() for name in gates}
    handles = [
        gate.register_forward_hook(
            # The name is bound now, since the loop goes on.
            lambda _, args, out, name=name: sums[name].add(out))
        for name, gate in gates.items()
    ]
    try:
        with finite_outputs(model):
            for batch in batches:
                forward(model, batch)
    finally:
        for handle in handles:
            handle.remove()
    return {name: of_gate for name, of_gate in sums.items() if of_gate.count}
