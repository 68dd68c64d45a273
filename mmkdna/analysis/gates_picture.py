"""A picture of what gates do."""
from __future__ import annotations
from pathlib import Path
from typing import Sequence

from matplotlib.figure import Figure

from ..checkpoints.writing import written_whole
from .gates import GateStatistics

COLORS = dict(channels='#5b8e7d', pictures='#f4a259')


def draw_gates(gates: Sequence[GateStatistics], path: str | Path) -> None:
    """Draw each gate's mean, and how far it moves.

    A row is a child. The dot is the mean of its gate; the bars are standard
    deviations, of the channels' means and from picture to picture. A gate
    that is constant has a cross.

    Args:
        gates (Sequence[GateStatistics]): The gates.
        path (str | Path): File to write; its suffix gives the format.

    Raises:
        ValueError: If matplotlib cannot write that format. Nothing is written
            then.
    """
    figure = Figure((8, 1.4 + 0.3 * len(gates)), layout='constrained')
    axes = figure.subplots()
    rows = range(len(gates))
    for offset, what, values in ((-0.15, 'channels', [
            gate.over_channels for gate in gates
    ]), (0.15, 'pictures', [gate.over_pictures for gate in gates])):
        axes.errorbar([gate.mean for gate in gates],
                      [row + offset for row in rows],
                      xerr=values,
                      fmt='none',
                      ecolor=COLORS[what],
                      elinewidth=4,
                      label=f'over {what}')
    axes.scatter([gate.mean for gate in gates],
                 rows,
                 marker='o',
                 color='black',
                 s=12,
                 zorder=3)
    constant = [row for row in rows if gates[row].constant]
    if constant:
        axes.scatter([gates[row].mean for row in constant],
                     constant,
                     marker='x',
                     color='#b3001b',
                     s=60,
                     zorder=4,
                     label='constant')
    axes.set_yticks(rows, [gate.name for gate in gates], fontsize=7)
    axes.set(xlim=(0, 1), xlabel='gate')
    axes.invert_yaxis()
    figure.legend(loc='outside upper right', ncols=3, frameon=False)
    with written_whole(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:])
