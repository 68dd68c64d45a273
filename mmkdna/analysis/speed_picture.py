"""A picture of how fast variants are."""
from __future__ import annotations
from pathlib import Path
from typing import Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ..checkpoints.writing import written_whole
from .speed_rows import SpeedRow

# Of what is compared with, and of the others; certain and not.
COLORS = dict(reference='#5b8e7d', certain='#f4a259', uncertain='#d9dbe1')


def draw_speeds(rows: Sequence[SpeedRow], path: str | Path) -> None:
    """Draw speeds as bars, one per variant.

    There is a row of bars for each config, and a column for each mode and
    size of batch. A bar is the median of the ratios of the rounds, its line
    goes from the least to the greatest; it is pale where that spread is no
    smaller than the distance from 1.

    Args:
        rows (Sequence[SpeedRow]): The rows.
        path (str | Path): File to write; its suffix, such as '.svg' or
            '.png', says in which format.

    Raises:
        ValueError: If matplotlib cannot write that format. Nothing is written
            then.
    """
    configs = list(dict.fromkeys(row.config for row in rows))
    cases = list(dict.fromkeys((row.mode, row.batch) for row in rows))
    most = max(
        sum((row.config, row.mode, row.batch) == (config, *case)
            for row in rows) for config in configs for case in cases)
    figure = Figure((2 + 3 * len(cases), len(configs) * (0.9 + 0.25 * most)),
                    layout='constrained')
    grid = figure.subplots(len(configs), len(cases), squeeze=False)
    for config, line in zip(configs, grid):
        for (mode, batch), axes in zip(cases, line):
            _draw_bars(axes, [
                row for row in rows
                if (row.config, row.mode, row.batch) == (config, mode, batch)
            ])
            axes.set_title(f'{config}\n{mode}, batch {batch}', fontsize=8)
    with written_whole(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:])


def _draw_bars(axes: Axes, rows: Sequence[SpeedRow]) -> None:
    """Draw one bar below the other."""
    for place, row in enumerate(rows):
        least, middle, greatest = (
            row.ratio[n] for n in ('min', 'median', 'max'))
        kind = 'uncertain' if row.uncertain else 'certain'
        if least == greatest == 1:
            kind = 'reference'
        axes.barh(
            place,
            middle,
            xerr=[[middle - least], [greatest - middle]],
            color=COLORS[kind],
            capsize=2)
    axes.axvline(1, color='gray', linewidth=0.8)
    axes.set_yticks(range(len(rows)), [row.variant for row in rows])
    axes.invert_yaxis()
    axes.tick_params(labelsize=7)
    axes.set_xlabel('speed, as ratio', fontsize=8)
