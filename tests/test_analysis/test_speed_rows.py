"""Ratios are formed within a round, and say when they say nothing."""
import pytest

from mmkdna.analysis.speed_rows import UNCERTAIN, compare_speeds, speed_table


def no_memory(speeds):
    return {key: (8, None) for key in speeds}


def test_ratios_are_formed_within_a_round():
    # The machine is half as fast in the second round.
    speeds = {
        ('a', 'plain'): [8., 4., 8.],
        ('a', 'fused'): [16., 8., 12.],
        ('b', 'plain'): [2., 1., 2.],
        ('b', 'fused'): [3., 1., 2.]
    }
    rows = compare_speeds(speeds, no_memory(speeds), 'eval', 4)
    assert [(row.config, row.variant) for row in rows] == list(speeds)
    assert [row.images_per_second for row in rows] == [8, 12, 2, 2]
    assert [tuple(row.ratio.values()) for row in rows] == [(1, 1, 1),
                                                           (1.5, 2, 2),
                                                           (1, 1, 1),
                                                           (1, 1, 1.5)]
    assert speed_table(rows).splitlines()[3].startswith(
        '| a | eval | 4 | fused | 12.0 | 333.33 | 2.000 | 1.500 | 2.000 | '
        '0.0 | 1.000 | |')
    # One variant only: configs are compared.
    del speeds['a', 'plain'], speeds['b', 'plain']
    rows = compare_speeds(speeds, no_memory(speeds), 'eval', 4)
    assert tuple(rows[1].ratio.values()) == (1 / 8, 1 / 6, 3 / 16)


@pytest.mark.parametrize(
    'rounds, uncertain',
    [
        ([10., 10.], False),
        ([9.5, 10.5], False),
        # As wide as far from 1, and wider.
        ([9., 11.], True),
        ([7., 10.], True),
        ([6., 7.], False),
        ([4., 7.], True),
        ([8., 8.], True),
        # Nobody knows the spread of one round.
        ([16.], True)
    ])
def test_a_ratio_that_says_nothing(rounds, uncertain):
    speeds = {('a', 'plain'): [8., 8.], ('a', 'fused'): rounds}
    reference, row = compare_speeds(speeds, no_memory(speeds), 'eval', 1)
    assert not reference.uncertain
    assert row.uncertain == uncertain
    table = speed_table([reference, row])
    assert (f'| ~{row.ratio["median"]:.3f} |' in table) == uncertain
    assert table.endswith(UNCERTAIN) == uncertain
    assert table.count('~') == 2 * uncertain


def test_memory_has_a_ratio():
    speeds = {('a', 'plain'): [1.], ('a', 'trained'): [1.]}
    memory = {
        ('a', 'plain'): (4_000_000, 2_000_000),
        ('a', 'trained'): (5_000_000, 3_000_000)
    }
    rows = compare_speeds(speeds, memory, 'train', 1)
    assert (rows[1].peak_bytes, rows[1].backward_bytes) == (5e6, 3e6)
    assert (rows[1].peak_ratio, rows[1].backward_ratio) == (1.25, 1.5)
    assert speed_table(rows).splitlines()[3].endswith(
        '| 5.0 | 1.250 | 3.0 | 1.500 |')
