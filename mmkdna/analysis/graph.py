"""A picture of who derives from whom."""
from __future__ import annotations
from collections import defaultdict
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, Patch, Rectangle
from torch import nn

from ..sharing import sharing_table

COLORS = dict(child='#f4a259', parent='#5b8e7d', plain='#d9dbe1')
# In inches: the width of a convolution's column, the height of a row without
# its arcs, and the greatest height of the arcs.
COLUMN, ROW, ARC = 0.34, 0.85, 0.4


def draw_sharing(model: nn.Module, path: str | Path) -> None:
    """Draw the convolutions of a model, and from whom children derive.

    A row is a stage of a backbone, neck or head; in it the convolutions stand
    in the order of their names in the model, each with its kernel size. An
    arrow leads from a parent to its child.

    Args:
        model (nn.Module): A detector, a backbone or any other module, linked.
        path (str | Path): File to write; its suffix, such as '.svg' or
            '.png', says in which format.

    Raises:
        ValueError: If matplotlib cannot write that format.
    """
    table = {row.name: row for row in sharing_table(model)}
    rows: dict[str, list[tuple[str, nn.Conv2d]]] = defaultdict(list)
    for name, module in model.named_modules():
        if isinstance(module, nn.Conv2d):
            rows['.'.join(name.split('.')[:-1][:2])].append((name, module))
    longest = max(len(row) for row in rows.values())
    width, height = 2.2 + COLUMN * max(longest, 8), (ROW + ARC) * len(rows) + 1
    figure = Figure((width, height))
    axes = figure.add_axes((0, 0, 1, 1))
    axes.set(xlim=(0, width), ylim=(0, height))
    axes.axis('off')
    places = {}
    for number, (stage, convs) in enumerate(rows.items(), 1):
        y = height - number * (ROW + ARC)
        axes.text(0.1, y + 0.12, stage, fontsize=9, weight='bold')
        for column, (name, conv) in enumerate(convs):
            x = 2 + COLUMN * column
            places[name] = x, y
            role = table[name].role if name in table else 'plain'
            axes.add_patch(
                Rectangle((x, y), COLUMN * 0.8, 0.3, color=COLORS[role]))
            middle = x + COLUMN * 0.4
            axes.text(
                middle,
                y + 0.15,
                '{}×{}'.format(*conv.kernel_size),
                fontsize=6,
                ha='center',
                va='center')
            axes.text(
                middle,
                y - 0.05,
                name[len(stage):].lstrip('.'),
                fontsize=5,
                rotation=90,
                ha='center',
                va='top')
    for name, row in table.items():
        if row.parent not in (None, name):
            _draw_arrow(axes, places[row.parent], places[name])
    axes.text(
        0.1,
        height - 0.3,
        f'{type(model).__name__}: {sharing_table(model).children} of '
        f'{sum(map(len, rows.values()))} convolutions derive their kernel',
        fontsize=10)
    axes.legend(
        handles=[Patch(color=color, label=r) for r, color in COLORS.items()],
        loc='upper left',
        bbox_to_anchor=(0.05, height - 0.35),
        bbox_transform=axes.transData,
        borderpad=0,
        ncol=len(COLORS),
        frameon=False,
        fontsize=8)
    figure.savefig(path)


def _draw_arrow(axes: Axes, start: tuple[float, float],
                end: tuple[float, float]) -> None:
    """Draw an arrow, bent upwards if parent and child are in one row."""
    style = 'arc3'
    if start[1] == end[1]:
        distance = abs(start[0] - end[0])
        height = min(0.15 + 0.1 * distance, ARC)
        bent = 1 if start[0] > end[0] else -1
        style = f'arc3,rad={bent * height / distance:.3f}'
    axes.add_patch(
        FancyArrowPatch(
            *((x + COLUMN * 0.4, y + 0.3) for x, y in (start, end)),
            connectionstyle=style,
            arrowstyle='-|>',
            mutation_scale=7,
            shrinkA=0,
            shrinkB=0,
            color='#444444',
            linewidth=0.8))
