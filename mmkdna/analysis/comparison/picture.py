"""Pictures of a comparison: accuracy against cost."""
from __future__ import annotations

from pathlib import Path
from typing import Mapping, Sequence

from matplotlib.figure import Figure

from .summary import BASELINE, Summary, pareto_front


def draw_comparison(summaries: Sequence[Summary],
                    path: str | Path,
                    title: str,
                    latencies: Mapping[str, float] | None = None) -> None:
    """Draw the metric against parameters and, if there is one, latency.

    Points are means, bars standard deviations over seeds, an open point has
    fewer seeds than were asked for, and a line joins those that no other
    experiment beats in both respects.

    Args:
        summaries (Sequence[Summary]): Experiments of one task.
        path (str | Path): File to write; its suffix gives the format.
        title (str): Stands above.
        latencies (Mapping[str, float], optional): Milliseconds for an image,
            by experiment. Defaults to None.
    """
    shown = [s for s in summaries if s.mean is not None]
    axes_of = [('parameters / M', {
        s.experiment: s.parameters / 1e6
        for s in shown if s.parameters
    })]
    if latencies:
        axes_of.append(('latency / ms', dict(latencies)))
    figure = Figure((6.4 * len(axes_of), 4.8), layout='constrained')
    figure.suptitle(title)
    for axes, (label, costs) in zip(
            figure.subplots(1, len(axes_of), squeeze=False)[0], axes_of):
        points = [s for s in shown if s.experiment in costs]
        for summary in points:
            assert summary.mean is not None
            axes.errorbar(
                costs[summary.experiment],
                summary.mean,
                summary.deviation,
                fmt='s' if summary.experiment == BASELINE else 'o',
                mfc='white' if summary.missing else None,
                capsize=3)
            axes.annotate(
                summary.experiment,
                (costs[summary.experiment], summary.mean),
                xytext=(4, 4),
                textcoords='offset points',
                fontsize=7)
        places = [(costs[s.experiment], s.mean or 0.) for s in points]
        front = [places[i] for i in pareto_front(places)]
        axes.step(
            *zip(*front), where='post', color='gray', linewidth=0.8, zorder=0)
        axes.set(xlabel=label, ylabel=points[0].metric if points else '')
    figure.savefig(path)
