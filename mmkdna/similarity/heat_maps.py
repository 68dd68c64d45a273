"""Heat maps of what repeats in a network."""
from __future__ import annotations
from itertools import groupby
from typing import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from .kernels import KernelPair
from .measure import Similarity

# In inches: a cell, and what the names need.
CELL, NAMES = 0.16, 3.2
# What has no value, which no colour of a map looks like.
EMPTY = dict(facecolor='#c8c8c8', edgecolor='#8a8a8a', hatch='////')


def outputs_figure(similarity: Similarity) -> Figure:
    """Draw the CKA of outputs.

    Args:
        similarity (Similarity): What was measured.

    Returns:
        Figure: A heat map, empty where an output is the same for all pictures.
    """
    return _heat_map(similarity.names, similarity.stages, similarity.cka,
                     'CKA, 0 to 1', 'YlOrRd', (0, 1))


def distance_figure(similarity: Similarity) -> Figure:
    """Draw how far kernels are from each other, less how far noise is.

    Args:
        similarity (Similarity): What was measured; there has to be a pair.

    Returns:
        Figure: A heat map of all kernels that have kin, red where they are
        nearer than noise, empty where two cannot be one.
    """
    return _kernels_map(similarity, lambda pair: pair.distance - pair.noise,
                        'distance less that of noise', 'RdBu')


def cosine_figure(similarity: Similarity) -> Figure:
    """Draw the cosine between kernels as they are.

    Args:
        similarity (Similarity): What was measured; there has to be a pair.

    Returns:
        Figure: A heat map of all kernels that have kin, red above 0, empty
        where two cannot be one.
    """
    return _kernels_map(similarity, lambda pair: pair.cosine, 'cosine',
                        'RdBu_r')


def _kernels_map(similarity: Similarity, value: Callable[[KernelPair], float],
                 label: str, colors: str) -> Figure:
    """Draw a value of each pair, on a scale as wide as the values are."""
    stages = {pair.conv: pair.stage for pair in similarity.pairs}
    places = {name: place for place, name in enumerate(stages)}
    values: list[list[float | None]] = [[None] * len(places) for _ in places]
    for pair in similarity.pairs:
        values[places[pair.conv]][places[pair.other]] = value(pair)
    most = max(abs(value(pair)) for pair in similarity.pairs) or 1.
    return _heat_map(
        list(stages), list(stages.values()), values,
        f'{label}, -{most:.2g} to {most:.2g}', colors, (-most, most))


def _heat_map(names: Sequence[str], stages: Sequence[str],
              values: Sequence[Sequence[float | None]], label: str,
              colors: str, limits: tuple[float, float]) -> Figure:
    """Draw a value for each two convolutions, and where stages begin."""
    number = len(names)
    side = max(number * CELL, 2) + NAMES
    figure = Figure((side + 1, side), layout='constrained')
    axes = figure.subplots()
    image = axes.imshow(
        np.array(values, float), cmap=colors, vmin=limits[0], vmax=limits[1])
    axes.patch.set(**EMPTY)
    axes.set_xticks(range(number), names, rotation=90, fontsize=6)
    axes.set_yticks(range(number), names, fontsize=6)
    _name_stages(axes, stages)
    figure.colorbar(image, label=label, shrink=0.6)
    return figure


def _name_stages(axes: Axes, stages: Sequence[str]) -> None:
    """Draw lines between stages, and write their names on the far sides."""
    middles, names, start = [], [], 0
    for stage, members in groupby(stages):
        end = start + len(list(members))
        middles.append((start + end - 1) / 2)
        names.append(stage)
        if start:
            axes.axhline(start - 0.5, color='black', linewidth=1)
            axes.axvline(start - 0.5, color='black', linewidth=1)
        start = end
    axes.secondary_xaxis('top').set_ticks(
        middles, names, rotation=90, fontsize=7)
    axes.secondary_yaxis('right').set_ticks(middles, names, fontsize=7)
