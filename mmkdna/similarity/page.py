"""A page that shows what repeats in a network."""
from __future__ import annotations
import base64
import html
import io
from typing import Sequence

import numpy as np
from matplotlib.figure import Figure

from .kernels import KernelPair
from .measure import Similarity

# In inches: a cell of a heat map, and what the names need.
CELL, NAMES = 0.16, 3.2
# Pairs in the table.
MOST_ALIKE = 20

PAGE = '''<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<title>{title}</title>
<style>
body {{ font-family: sans-serif; max-width: 75em; margin: 2em auto; }}
img {{ max-width: 100%; }}
td, th {{ padding: 0.1em 0.8em; text-align: left; }}
td.number {{ text-align: right; }}
</style>
</head>
<body>
<h1>{title}</h1>
<p>{conditions}</p>
<h2>Outputs</h2>
<p>Linear CKA between the outputs of each two convolutions, in the order in
which they run: 1 if a rotation and a factor lead from one to the other, around
0 if they have nothing in common. Lines stand between stages.</p>
<img alt="CKA of outputs" src="{outputs}">
<h2>Kernels</h2>
<p>How much more alike than chance two kernels of one shape and stage are: the
share by which the distance of a kernel (row) from another one (column) is
less than that from Gaussian noise, after the channels inside the kernel's
block were put into the order that suits the other best and each filter got
its best factor. 0 is chance, 1 the same kernel. {verdict}</p>
{kernels}
{table}
</body>
</html>
'''


def similarity_page(similarity: Similarity, title: str,
                    conditions: str) -> str:
    """Write a page with its pictures inside, which needs no network.

    Args:
        similarity (Similarity): What was measured.
        title (str): Stands above.
        conditions (str): Of what, and on what, it was measured.

    Returns:
        str: HTML.
    """
    pairs = sorted(similarity.pairs, key=more_than_chance, reverse=True)
    kernels, table = '', ''
    if pairs:
        kernels = ('<img alt="likeness of kernels" src="'
                   f'{_embedded(kernels_figure(similarity))}">')
        head = 'kernel', 'from', 'cosine', 'distance', 'noise'
        rows = [''.join(f'<th>{name}</th>' for name in head)]
        rows += [
            ''.join(f'<td>{html.escape(name)}</td>'
                    for name in (pair.conv, pair.other)) +
            ''.join(f'<td class="number">{value:.3f}</td>'
                    for value in (pair.cosine, pair.distance, pair.noise))
            for pair in pairs[:MOST_ALIKE]
        ]
        table = '<table>' + '\n'.join(f'<tr>{row}</tr>'
                                      for row in rows) + '</table>'
    return PAGE.format(
        title=html.escape(title),
        conditions=html.escape(conditions),
        outputs=_embedded(outputs_figure(similarity)),
        verdict=html.escape(verdict(similarity)),
        kernels=kernels,
        table=table)


def more_than_chance(pair: KernelPair) -> float:
    """Say how much more alike than chance two kernels are.

    Args:
        pair (KernelPair): The two.

    Returns:
        float: 0 for chance, 1 for the same kernel.
    """
    return 1 - pair.distance / pair.noise if pair.noise else 0.


def verdict(similarity: Similarity) -> str:
    """Say in a sentence what the kernels have in common.

    Args:
        similarity (Similarity): What was measured.

    Returns:
        str: The sentence.
    """
    pairs = similarity.pairs
    if not pairs:
        return 'No two kernels have one shape in one stage.'
    best = max(pairs, key=more_than_chance)
    distances = [pair.distance for pair in pairs]
    noises = [pair.noise for pair in pairs]
    return (f'The distances are {min(distances):.2f} to {max(distances):.2f}, '
            f'those from noise {min(noises):.2f} to {max(noises):.2f}. Most '
            f'alike is {best.conv} to {best.other}, by '
            f'{more_than_chance(best):.0%} more than to noise.')


def outputs_figure(similarity: Similarity) -> Figure:
    """Draw the CKA of outputs.

    Args:
        similarity (Similarity): What was measured.

    Returns:
        Figure: A heat map.
    """
    return _heat_map(similarity, similarity.cka, 'CKA', 'magma', 0)


def kernels_figure(similarity: Similarity) -> Figure:
    """Draw how much more alike than chance kernels are.

    Args:
        similarity (Similarity): What was measured.

    Returns:
        Figure: A heat map, empty where two kernels cannot be one.
    """
    places = {name: place for place, name in enumerate(similarity.names)}
    number = len(places)
    values: list[list[float | None]] = [[None] * number for _ in range(number)]
    for pair in similarity.pairs:
        if pair.conv in places and pair.other in places:
            values[places[pair.conv]][places[pair.other]] = more_than_chance(
                pair)
    return _heat_map(similarity, values, 'more than chance', 'RdBu', -1)


def _heat_map(similarity: Similarity, values: Sequence[Sequence[float | None]],
              label: str, colors: str, least: float) -> Figure:
    """Draw a value for each two convolutions, with lines between stages."""
    number = len(similarity.names)
    side = max(number * CELL, 2) + NAMES
    figure = Figure((side + 1, side), layout='constrained')
    axes = figure.subplots()
    image = axes.imshow(
        np.array(values, float), cmap=colors, vmin=least, vmax=1)
    axes.set_facecolor('#eeeeee')
    axes.set_xticks(range(number), similarity.names, rotation=90, fontsize=6)
    axes.set_yticks(range(number), similarity.names, fontsize=6)
    stages = similarity.stages
    for place in range(1, number):
        if stages[place] != stages[place - 1]:
            axes.axhline(place - 0.5, color='white', linewidth=1)
            axes.axvline(place - 0.5, color='white', linewidth=1)
    figure.colorbar(image, label=label, shrink=0.6)
    return figure


def _embedded(figure: Figure) -> str:
    """A picture as the address that a page has of it."""
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=110)
    return ('data:image/png;base64,' +
            base64.b64encode(file.getvalue()).decode())
