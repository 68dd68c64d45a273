"""What became of plain weights, kept where a user can look at it."""
from __future__ import annotations
from dataclasses import dataclass

from torch import nn

from .adapters import Fit


@dataclass
class PlainReport:
    """What a unit did with the plain weights that were loaded last.

    All names and keys are those in the unit. Its ``str`` is what the log said.

    Attributes:
        unit (str): Name of the unit's type.
        exact (list[str]): Keys of the tensors that were taken as they are.
        fits (list[Fit]): How well each child's kernel comes back; a child that
            is its own parent has a neutral adapter and comes back exactly.
        aligned (list[str]): Blocks whose hidden channels were permuted.
        identity (list[str]): Blocks that the weights lack and that start as
            the identity.
        stuck (list[str]): Those of them that are trained and stay it, since
            their last norm is frozen.
        missing (list[str]): Keys of the unit for which the weights have
            nothing, or something of another shape.
        unexpected (list[str]): Keys of the weights for which the unit has no
            place.
    """
    unit: str
    exact: list[str]
    fits: list[Fit]
    aligned: list[str]
    identity: list[str]
    stuck: list[str]
    missing: list[str]
    unexpected: list[str]

    def __str__(self) -> str:
        lines = []
        shared = [fit for fit in self.fits if fit.child != fit.parent]
        if shared:
            width = max(len(fit.child) for fit in shared)
            lines.append(f'KernelDNA: {self.unit} takes plain weights. '
                         'Parents and plain convolutions have theirs exactly; '
                         'the kernels of the children became adapters:')
            lines += [
                f'  {fit.child:{width}} from {fit.parent:{width}} relative '
                f'error {fit.error:.3f}, cosine {fit.cosine:.3f}'
                for fit in shared
            ]
        elif self.fits:
            lines.append(f'KernelDNA: {self.unit} takes plain weights '
                         f'exactly; {len(self.fits)} convolutions have a '
                         'neutral adapter.')
        if self.identity:
            lines.append(f'KernelDNA: {self.unit} has blocks that the weights '
                         'do not have and that start as the identity: '
                         f'{", ".join(self.identity)}')
        if self.stuck:
            lines.append('KernelDNA: the last norms of these blocks are '
                         'frozen at zero, so that they stay it: '
                         f'{", ".join(self.stuck)}; '
                         'norm_cfg=dict(type=\'BN\', requires_grad=True) on '
                         'the backbone lets them learn')
        return '\n'.join(lines)


def plain_report(model: nn.Module) -> dict[str, PlainReport]:
    """Collect what the units of a model did with plain weights.

    Args:
        model (nn.Module): A detector, a backbone or any other module.

    Returns:
        dict[str, PlainReport]: The report of each unit into which plain
        weights were loaded last, by its name in ``model``; ``model`` itself
        has the name ''. A unit that took a checkpoint with adapters after
        that has none.
    """
    return {
        name: module.plain_report
        for name, module in model.named_modules()
        if vars(module).get('plain_report') is not None
    }
