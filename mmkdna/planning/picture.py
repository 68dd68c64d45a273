"""A picture of damage against parameters saved."""
from __future__ import annotations
from pathlib import Path
from typing import Mapping, Sequence

from matplotlib.figure import Figure

from ..checkpoints.writing import written_whole
from .choosing import Step
from .damage import PlanDamage

COLORS = dict(
    sum='#5b8e7d', noise='#b0b0b0', at_once='#b3001b', refitted='#f4a259')


def draw_curve(curve: Sequence[Step], measured: Mapping[Step, PlanDamage],
               total: int, wished: float, path: str | Path) -> None:
    """Draw the curve, and what was measured along it.

    Args:
        curve (Sequence[Step]): The curve.
        measured (dict[Step, PlanDamage]): Links that were measured together.
        total (int): Parameters of all convolutions.
        wished (float): The share of them that is to be saved.
        path (str | Path): File to write; its suffix gives the format.

    Raises:
        ValueError: If matplotlib cannot write that format. Nothing is written
            then.
    """
    figure = Figure((7, 4.5), layout='constrained')
    axes = figure.subplots()
    saved = [100 * step.saved / total for step in curve]
    axes.plot(
        saved, [step.damage for step in curve],
        color=COLORS['sum'],
        marker='.',
        label='sum of single links')
    axes.plot(
        saved, [sum(one.noise.error for one in step.links) for step in curve],
        color=COLORS['noise'],
        linestyle='dashed',
        label='the same from noise')
    for which, label in (('at_once', 'together, at once'),
                         ('refitted', 'together, refitted')):
        axes.scatter([100 * step.saved / total for step in measured],
                     [getattr(one, which).error for one in measured.values()],
                     color=COLORS[which],
                     zorder=3,
                     label=label)
    axes.axvline(100 * wished, color='black', linewidth=0.8)
    axes.set(
        xlabel='parameters of convolutions saved, %',
        ylabel='error of the outputs, of their variance',
        yscale='log')
    figure.legend(loc='outside upper center', ncols=2, frameon=False)
    with written_whole(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:])
