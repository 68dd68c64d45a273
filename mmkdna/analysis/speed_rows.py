"""Speeds and memory of models, compared."""
from __future__ import annotations
from dataclasses import dataclass
from statistics import median
from typing import Mapping, Sequence

from .tables import markdown_table

HEAD = ('config', 'mode', 'batch', 'variant', 'images/s', 'ms', 'ratio',
        'least', 'greatest', 'peak MB', 'ratio', 'for backward MB', 'ratio')
UNCERTAIN = ('~ the spread of this ratio, from the least to the greatest of '
             'the rounds, is no smaller than its distance from 1, or is not '
             'known of a single round')


@dataclass(frozen=True)
class SpeedRow:
    """The speed and the memory of one variant of a config's model.

    Attributes:
        config (str): Name of the config.
        variant (str): Name of the variant.
        mode (str): 'eval' or 'train'.
        batch (int): Number of images in a batch.
        images_per_second (float): Median over the rounds.
        milliseconds (float): For a batch, median over the rounds.
        ratio (dict[str, float]): 'min', 'median' and 'max' over the rounds of
            the ratio of speeds to what is compared with.
        uncertain (bool): Whether the spread of that ratio is no smaller than
            its distance from 1, or not known of a single round. False for
            what is compared with.
        peak_bytes (int): Peak memory of a step beyond weights and images.
        peak_ratio (float): Its ratio to that of what is compared with.
        backward_bytes (int | None): What a forward keeps for the backward, in
            train mode.
        backward_ratio (float | None): Its ratio, likewise.
        rounds (list[float]): Images per second of each round.
    """
    config: str
    variant: str
    mode: str
    batch: int
    images_per_second: float
    milliseconds: float
    ratio: dict[str, float]
    uncertain: bool
    peak_bytes: int
    peak_ratio: float
    backward_bytes: int | None
    backward_ratio: float | None
    rounds: list[float]


def compare_speeds(speeds: Mapping[tuple[str, str], list[float]],
                   memory: Mapping[tuple[str, str], tuple[int, int | None]],
                   mode: str, batch: int) -> list[SpeedRow]:
    """Compare variants with the first of the same config.

    If there is one variant only, all are compared with the first config.

    Args:
        speeds (Mapping[tuple[str, str], list[float]]): What
            :func:`mmkdna.analysis.speed.time_in_turns` gives, by config and
            variant.
        memory (Mapping[tuple[str, str], tuple[int, int | None]]): What
            :meth:`mmkdna.analysis.speed.TimedModel.memory` gives, likewise.
        mode (str): 'eval' or 'train'.
        batch (int): Number of images in a batch.

    Returns:
        list[SpeedRow]: A row per config and variant.
    """
    references: dict[str, tuple[str, str]] = {}
    one_variant = len({variant for _, variant in speeds}) == 1
    rows = []
    for key, rounds in speeds.items():
        config, variant = key
        first = references.setdefault('' if one_variant else config, key)
        ratios = [ours / theirs for ours, theirs in zip(rounds, speeds[first])]
        ratio = dict(min=min(ratios), median=median(ratios), max=max(ratios))
        spread = ratio['max'] - ratio['min']
        peak, backward = memory[key]
        first_peak, first_backward = memory[first]
        rows.append(
            SpeedRow(
                config,
                variant,
                mode,
                batch,
                images_per_second=median(rounds),
                milliseconds=1000 * batch / median(rounds),
                ratio=ratio,
                uncertain=key != first
                and (len(rounds) < 2 or spread >= abs(ratio['median'] - 1)),
                peak_bytes=peak,
                peak_ratio=peak / first_peak,
                backward_bytes=backward,
                backward_ratio=(backward / first_backward
                                if backward and first_backward else None),
                rounds=rounds))
    return rows


def speed_table(rows: Sequence[SpeedRow]) -> str:
    """Write speeds and memory as a Markdown table.

    Args:
        rows (Sequence[SpeedRow]): The rows.

    Returns:
        str: The table, with a line per row, and what ``~`` says if it is
        there.
    """
    table = markdown_table(HEAD, map(_cells, rows))
    if any(row.uncertain for row in rows):
        table += f'\n\n{UNCERTAIN}'
    return table


def _cells(row: SpeedRow) -> list:
    cells = [
        row.config, row.mode, row.batch, row.variant,
        f'{row.images_per_second:.1f}', f'{row.milliseconds:.2f}',
        '~' * row.uncertain + f'{row.ratio["median"]:.3f}',
        f'{row.ratio["min"]:.3f}', f'{row.ratio["max"]:.3f}',
        f'{row.peak_bytes / 1e6:.1f}', f'{row.peak_ratio:.3f}'
    ]
    if row.backward_bytes is None:
        return [*cells, None, None]
    return [
        *cells, f'{row.backward_bytes / 1e6:.1f}', f'{row.backward_ratio:.3f}'
    ]
