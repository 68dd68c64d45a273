"""Which links to make first."""
from __future__ import annotations
from dataclasses import dataclass
from typing import Iterator, Sequence

from .candidates import Candidate
from .damage import Damage, LinkDamage


@dataclass(frozen=True)
class Step:
    """A point of the curve of damage against parameters saved.

    Attributes:
        links (tuple[LinkDamage]): All links by then, in the order in which
            the children came.
    """
    links: tuple[LinkDamage, ...]

    @property
    def saved(self) -> int:
        """int: Parameters that the links save."""
        return sum(one.saved for one in self.links)

    @property
    def damage(self) -> float:
        """float: Sum of what each alone costs: an estimate of what they cost
        together."""
        return sum(one.output.error for one in self.links)


def find_curve(measured: Sequence[LinkDamage]) -> list[Step]:
    """Order links by what they cost for each parameter that they save.

    Each step adds a child, the one with the least damage per parameter. A
    child has one parent, and is none. Where a parent becomes a child, its
    children go to its parent as well, and the difference counts. A link whose
    damage is no finite number is not made.

    Args:
        measured (Sequence[LinkDamage]): All links that were measured.

    Returns:
        list[Step]: From the first link to the most there can be.
    """
    curve: list[Step] = []
    step = Step(())
    while True:
        following = list(_next_steps(step, measured))
        if not following:
            return curve
        before = step
        step = min(
            following,
            key=lambda after: (after.damage - before.damage) /
            (after.saved - before.saved))
        curve.append(step)


def find_plan(measured: Sequence[LinkDamage],
              wished: float) -> list[Step] | None:
    """Find the links with the least damage that save enough.

    That is a part of the curve, and one link more, which need not be the next
    one of the curve: the last link may save less than that, or cost less.

    Args:
        measured (Sequence[LinkDamage]): All links that were measured.
        wished (float): Parameters to save.

    Returns:
        list[Step] | None: From the first link to all that are needed; None if
        all links that there can be save less.
    """
    curve = find_curve(measured)
    enough = [[*curve[:number], last]
              for number, step in enumerate([Step(()), *curve])
              if step.saved < wished for last in _next_steps(step, measured)
              if last.saved >= wished]
    return min(enough, key=lambda steps: steps[-1].damage, default=None)


def _next_steps(step: Step, measured: Sequence[LinkDamage]) -> Iterator[Step]:
    """All that is a child more than a step."""
    known = {(one.child, one.parent): one for one in measured if one.is_finite}
    children = {one.child for one in step.links}
    for one in known.values():
        if one.child in children or one.parent in children:
            continue
        links = [
            known.get((x.child, one.parent)) if x.parent == one.child else x
            for x in step.links
        ]
        if None not in links:
            yield Step((*filter(None, links), one))


def most_saved(candidates: Sequence[Candidate]) -> int:
    """Count the parameters that the most links there can be would save.

    Args:
        candidates (Sequence[Candidate]): Links that could be made.

    Returns:
        int: Their number.
    """
    free = Damage(0.)
    curve = find_curve([
        LinkDamage(f'{one.unit}.{one.child}', f'{one.unit}.{one.parent}',
                   one.saved, '', 0., free, free) for one in candidates
    ])
    return curve[-1].saved if curve else 0
