"""Means, spreads and differences of runs with several seeds."""
from __future__ import annotations
import math
from statistics import mean, stdev
from typing import Any, Mapping, NamedTuple, Sequence

from ..analysis.tables import markdown_table, millions

# The experiment that the others are compared with.
BASELINE = 'plain'


class Summary(NamedTuple):
    """The runs of one experiment.

    Attributes:
        experiment (str): Its name.
        metric (str): Name of the metric.
        values (dict[int, float]): The metric by seed.
        missing (list[int]): Seeds that were asked for and have not been run.
        mean (float | None): Mean of the values; None without any.
        deviation (float | None): Standard deviation of the values over seeds;
            None with fewer than two.
        difference (float | None): Mean over the seeds that both have of the
            value less that of the baseline with the same seed.
        difference_deviation (float | None): Standard deviation of these
            differences; None with fewer than two.
        parameters (int | None): Parameters of the model.
        flops (int | None): FLOPs of one image.
    """
    experiment: str
    metric: str
    values: dict[int, float]
    missing: list[int]
    mean: float | None
    deviation: float | None
    difference: float | None
    difference_deviation: float | None
    parameters: int | None
    flops: int | None


class Latency(NamedTuple):
    """Milliseconds that the model of an experiment takes for one image.

    Attributes:
        median (float): Median over the rounds.
        least (float): Of the fastest round.
        greatest (float): Of the slowest round.
    """
    median: float
    least: float
    greatest: float


def summarize(runs: Sequence[Mapping[str, Any]], experiments: Sequence[str],
              seeds: Sequence[int]) -> list[Summary]:
    """Summarise the runs of a task.

    Args:
        runs (Sequence[Mapping]): Records of runs, each with 'experiment',
            'seed', 'metric', 'value', 'parameters' and 'flops'. Those of
            other experiments and seeds are left out.
        experiments (Sequence[str]): Names, in the order of the summaries.
        seeds (Sequence[int]): Seeds that are asked for.

    Returns:
        list[Summary]: One for each experiment, also for one without a run.

    Raises:
        ValueError: If two runs are of one experiment and seed, or the metrics
            of the runs differ.
    """
    by_experiment: dict[str, dict[int, Mapping[str, Any]]] = {
        name: {}
        for name in experiments
    }
    for run in runs:
        if run['experiment'] not in by_experiment or run['seed'] not in seeds:
            continue
        of_experiment = by_experiment[run['experiment']]
        if run['seed'] in of_experiment:
            raise ValueError(
                f'two runs of {run["experiment"]} with seed {run["seed"]} are '
                'given, one is expected: remove one of their files')
        of_experiment[run['seed']] = run
    metrics = {
        run['metric']
        for of_experiment in by_experiment.values()
        for run in of_experiment.values()
    }
    if len(metrics) > 1:
        raise ValueError(f'runs with the metrics {sorted(metrics)} are given, '
                         'runs of one task with one metric are expected')
    metric = metrics.pop() if metrics else ''
    baseline = {
        seed: run['value']
        for seed, run in by_experiment.get(BASELINE, {}).items()
    }
    summaries = []
    for name, of_experiment in by_experiment.items():
        values = {
            seed: of_experiment[seed]['value']
            for seed in seeds if seed in of_experiment
        }
        differences = [
            value - baseline[seed] for seed, value in values.items()
            if seed in baseline and name != BASELINE
        ]
        some = next(iter(of_experiment.values()), {})
        summaries.append(
            Summary(name, metric, values,
                    [seed for seed in seeds if seed not in values],
                    *_mean_and_deviation(list(values.values())),
                    *_mean_and_deviation(differences), some.get('parameters'),
                    some.get('flops')))
    return summaries


def _mean_and_deviation(
        values: Sequence[float]) -> tuple[float | None, float | None]:
    return (mean(values) if values else None,
            stdev(values) if len(values) > 1 else None)


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Find the points that no other point beats in both respects.

    Args:
        points (Sequence[tuple[float, float]]): Cost, of which less is better,
            and value, of which more is better.

    Returns:
        list[int]: Indices of the points that remain, by rising cost.
    """
    order = sorted(
        range(len(points)), key=lambda i: (points[i][0], -points[i][1]))
    front, best = [], -math.inf
    for index in order:
        if points[index][1] > best:
            front.append(index)
            best = points[index][1]
    return front


def summary_table(summaries: Sequence[Summary],
                  digits: int = 3,
                  latencies: Mapping[str, Latency] | None = None) -> str:
    """Write a Markdown table of summaries.

    A mean of fewer seeds than were asked for says so; what was not run is an
    empty cell.

    Args:
        summaries (Sequence[Summary]): From :func:`summarize`.
        digits (int): Digits behind the point. Defaults to 3.
        latencies (Mapping[str, Latency], optional): By experiment; with any,
            there is a column of them. Defaults to None.

    Returns:
        str: The table.
    """
    metric = next((s.metric for s in summaries if s.metric), 'metric')
    head = ['experiment', 'parameters', metric, f'less {BASELINE}, paired']
    if latencies:
        head.append('ms, deployed (least to greatest)')
    rows = []
    for summary in summaries:
        row = [
            summary.experiment, None
            if summary.parameters is None else millions(summary.parameters),
            _cell(summary.mean, summary.deviation, digits) +
            _seeds(summary) if summary.values else None,
            _cell(summary.difference, summary.difference_deviation, digits,
                  '+') if summary.difference is not None else None
        ]
        if latencies:
            row.append(_milliseconds(latencies.get(summary.experiment)))
        rows.append(row)
    return markdown_table(head, rows)


def _cell(value: float | None,
          deviation: float | None,
          digits: int,
          sign: str = '') -> str:
    spread = '' if deviation is None else f' ± {deviation:.{digits}f}'
    return f'{value:{sign}.{digits}f}{spread}'


def _seeds(summary: Summary) -> str:
    if not summary.missing:
        return ''
    number = len(summary.values)
    return f' ({number} of {number + len(summary.missing)} seeds)'


def _milliseconds(latency: Latency | None) -> str | None:
    if latency is None:
        return None
    return (f'{latency.median:.2f} ({latency.least:.2f} to '
            f'{latency.greatest:.2f})')
