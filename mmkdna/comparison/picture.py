"""A picture of a comparison: accuracy against parameters."""
from __future__ import annotations
from pathlib import Path
from typing import Sequence

from matplotlib.figure import Figure

from .summary import BASELINE, Summary, pareto_front


def draw_comparison(summaries: Sequence[Summary], path: str | Path,
                    title: str) -> None:
    """Draw the metric of a task's experiments against their parameters.

    Points are means, bars standard deviations over seeds; an open point has
    fewer seeds than were asked for. A line joins the experiments that no
    other one beats in both respects.

    Args:
        summaries (Sequence[Summary]): Experiments of one task; those without
            a run are left out.
        path (str | Path): File to write; its suffix gives the format.
        title (str): Stands above.

    Raises:
        ValueError: If matplotlib cannot write that format.
    """
    figure = Figure((7.2, 4.8), layout='constrained')
    axes = figure.subplots()
    places, metric = [], ''
    for summary in summaries:
        if summary.mean is None or summary.parameters is None:
            continue
        place = summary.parameters / 1e6, summary.mean
        places.append(place)
        metric = summary.metric
        axes.errorbar(
            *place,
            summary.deviation,
            fmt='s' if summary.experiment == BASELINE else 'o',
            mfc='white' if summary.missing else None,
            capsize=3)
        axes.annotate(
            summary.experiment,
            place,
            xytext=(4, 4),
            textcoords='offset points',
            fontsize=7)
    front = [places[i] for i in pareto_front(places)]
    if front:
        axes.step(
            *zip(*front), where='post', color='gray', linewidth=0.8, zorder=0)
    axes.set(title=title, xlabel='parameters / M', ylabel=metric)
    figure.savefig(path)
