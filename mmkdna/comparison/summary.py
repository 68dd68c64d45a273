"""Means, spreads and differences of runs with several seeds."""
from __future__ import annotations
import math
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Mapping, NamedTuple, Sequence

from ..analysis.tables import markdown_table, millions

# The experiment that the others are compared with.
BASELINE = 'plain'
# Those that have a column of differences, where a task has them.
CONTROLS = BASELINE, 'plain-narrow'


@dataclass(frozen=True)
class Difference:
    """The metric less that of a control, over the seeds that both have.

    Attributes:
        mean (float): Mean of the differences.
        deviation (float | None): Their standard deviation; None with fewer
            than two.
        pairs (int): How many there are.
    """
    mean: float
    deviation: float | None
    pairs: int


@dataclass(frozen=True)
class Summary:
    """The runs of one experiment.

    Attributes:
        experiment (str): Its name.
        metric (str): Name of the metric.
        values (dict[int, float]): The metric by seed.
        missing (list[int]): Seeds that were asked for and have not been run.
        mean (float | None): Mean of the values; None without any.
        deviation (float | None): Standard deviation of the values over seeds;
            None with fewer than two.
        differences (dict[str, Difference]): To other experiments of
            :data:`CONTROLS`, by name; those that have a seed in common.
        parameters (int | None): Parameters of the model.
        flops (int | None): FLOPs of one image.
    """
    experiment: str
    metric: str
    values: dict[int, float]
    missing: list[int]
    mean: float | None
    deviation: float | None
    differences: dict[str, Difference]
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
    values = {
        name: {
            seed: runs[seed]['value']
            for seed in seeds if seed in runs
        }
        for name, runs in by_experiment.items()
    }
    summaries = []
    for name, of_experiment in by_experiment.items():
        differences = {
            control: _difference(values[name], values[control])
            for control in CONTROLS if control != name and values[name].keys()
            & values.get(control, {}).keys()
        }
        some = next(iter(of_experiment.values()), {})
        summaries.append(
            Summary(name, metric, values[name],
                    [seed for seed in seeds if seed not in values[name]],
                    mean(values[name].values()) if values[name] else None,
                    _deviation(list(values[name].values())), differences,
                    some.get('parameters'), some.get('flops')))
    return summaries


def _difference(values: Mapping[int, float],
                control: Mapping[int, float]) -> Difference:
    """Of pairs with one seed."""
    found = [
        value - control[seed] for seed, value in values.items()
        if seed in control
    ]
    return Difference(mean(found), _deviation(found), len(found))


def _deviation(values: Sequence[float]) -> float | None:
    return stdev(values) if len(values) > 1 else None


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

    A mean of fewer seeds, or pairs of one seed, than were asked for says so;
    what was not run is an empty cell.

    Args:
        summaries (Sequence[Summary]): From :func:`summarize`.
        digits (int): Digits behind the point. Defaults to 3.
        latencies (Mapping[str, Latency], optional): By experiment; with any,
            there is a column of them. Defaults to None.

    Returns:
        str: The table.
    """
    metric = next((s.metric for s in summaries if s.metric), 'metric')
    controls = [
        name for name in CONTROLS
        if name == BASELINE or any(name in s.differences for s in summaries)
    ]
    head = ['experiment', 'parameters', metric]
    head += [f'less {name}, paired' for name in controls]
    if latencies:
        head.append('ms, deployed (least to greatest)')
    rows = []
    for summary in summaries:
        asked = len(summary.values) + len(summary.missing)
        row = [
            summary.experiment, None if summary.parameters is None else
            millions(summary.parameters), None if summary.mean is None else
            _cell(summary.mean, summary.deviation, digits) +
            _count(len(summary.values), asked, 'seeds')
        ]
        for name in controls:
            found = summary.differences.get(name)
            row.append(None if found is None else
                       _cell(found.mean, found.deviation, digits, '+') +
                       _count(found.pairs, asked, 'pairs'))
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


def _count(number: int, asked: int, what: str) -> str:
    """Say so if there are fewer than were asked for."""
    return '' if number == asked else f' ({number} of {asked} {what})'


def _milliseconds(latency: Latency | None) -> str | None:
    if latency is None:
        return None
    return (f'{latency.median:.2f} ({latency.least:.2f} to '
            f'{latency.greatest:.2f})')
