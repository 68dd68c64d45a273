"""A picture of a comparison: accuracy against parameters and latency."""
from __future__ import annotations
from pathlib import Path
from typing import Any, Mapping, Sequence

from matplotlib.figure import Figure

from ..checkpoints.writing import written_whole
from .summary import BASELINE, Latency, Summary, pareto_front


def draw_comparison(summaries: Sequence[Summary],
                    path: str | Path,
                    title: str,
                    latencies: Mapping[str, Latency] | None = None) -> None:
    """Write a picture of a comparison, as :func:`comparison_figure` draws it.

    Args:
        summaries (Sequence[Summary]): See there.
        path (str | Path): File to write; its suffix gives the format.
        title (str): See there.
        latencies (Mapping[str, Latency], optional): See there. Defaults to
            None.

    Raises:
        ValueError: If matplotlib cannot write that format. Nothing is written
            then.
    """
    figure = comparison_figure(summaries, title, latencies)
    with written_whole(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:])


def comparison_figure(
        summaries: Sequence[Summary],
        title: str,
        latencies: Mapping[str, Latency] | None = None) -> Figure:
    """Draw the metric of a task's experiments against what they cost.

    Points are means, vertical bars standard deviations over seeds; an open
    point has fewer seeds than were asked for. A horizontal bar leads from the
    fastest to the slowest round. A line joins the experiments that no other
    one beats in both respects.

    Args:
        summaries (Sequence[Summary]): Experiments of one task; those without
            a run are left out.
        title (str): Stands above.
        latencies (Mapping[str, Latency], optional): By experiment; with any,
            there is a second panel, of the experiments that have one.
            Defaults to None.

    Returns:
        Figure: The picture.
    """
    shown = [s for s in summaries if s.mean is not None]
    panels = 2 if latencies else 1
    figure = Figure((7.2 * panels, 4.8), layout='constrained')
    all_axes = figure.subplots(1, panels, sharey=True, squeeze=False)[0]
    figure.suptitle(title)
    all_axes[0].set(
        xlabel='parameters / M',
        ylabel=next((s.metric for s in shown), 'metric'))
    _draw_panel(all_axes[0], [(s, s.parameters / 1e6, None)
                              for s in shown if s.parameters is not None])
    if latencies:
        all_axes[1].set(xlabel='latency of one image, deployed / ms')
        _draw_panel(
            all_axes[1],
            [(s, time.median,
              ([time.median - time.least], [time.greatest - time.median]))
             for s in shown for time in [latencies.get(s.experiment)] if time])
    return figure


def _draw_panel(axes: Any, points: Sequence[tuple[Summary, float,
                                                  Any]]) -> None:
    """Draw experiments at their costs, with the spread of these."""
    places = [(cost, summary.mean or 0.) for summary, cost, _ in points]
    for place, (summary, _, spread) in zip(places, points):
        axes.errorbar(
            *place,
            summary.deviation,
            spread,
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
