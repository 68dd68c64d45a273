"""A page that shows what repeats in a network."""
from __future__ import annotations
import base64
import html
import io

from matplotlib.figure import Figure

from .heat_maps import cosine_figure, distance_figure, outputs_figure
from .kernels import KernelPair
from .measure import Similarity

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
0 if they have nothing in common. Lines stand between stages, whose names are
at the top and on the right; what is hatched has no value.</p>
<img alt="CKA of outputs" src="{outputs}">
<h2>Kernels</h2>
<p>How alike two kernels of one shape and stage are, which could be one; of all
convolutions that have such kin, also those whose outputs are not compared.
{verdict}</p>
{kernels}
{table}
</body>
</html>
'''
KERNELS = '''<h3>Distance</h3>
<p>What is left of a kernel (row) that is made from another one (column), less
what is left of it if it is made from Gaussian noise. Before, the channels
inside the kernel's block are put into the order that suits the other best, and
each filter gets its best factor; between kernels of one block the order stays.
Red is nearer than noise. The scale is as wide as the values are.</p>
<img alt="distance of kernels" src="{distance}">
<h3>Cosine</h3>
<p>Between the two kernels as they are.</p>
<img alt="cosine of kernels" src="{cosine}">'''


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
        kernels = KERNELS.format(
            distance=_embedded(distance_figure(similarity)),
            cosine=_embedded(cosine_figure(similarity)))
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


def _embedded(figure: Figure) -> str:
    """A picture as the address that a page has of it."""
    file = io.BytesIO()
    figure.savefig(file, format='png', dpi=110)
    return ('data:image/png;base64,' +
            base64.b64encode(file.getvalue()).decode())
