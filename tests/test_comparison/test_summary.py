"""Means, spreads and paired differences, against numbers by hand."""
import pytest

from mmkdna.comparison import (Difference, pareto_front, summarize,
                               summary_table)


def run(experiment, seed, value, metric='mIoU', parameters=2_000_000):
    return dict(
        experiment=experiment,
        seed=seed,
        value=value,
        metric=metric,
        parameters=parameters,
        flops=5)


RUNS = [
    run('plain', 0, 10.),
    run('plain', 1, 14.),
    run('plain', 2, 12.),
    run('kdna', 0, 11., parameters=1_000_000),
    run('kdna', 1, 16., parameters=1_000_000),
    run('kdna', 3, 99., parameters=1_000_000),
    run('gone', 0, 1.),
]
NAMES = ['plain', 'kdna', 'odconv']


def test_numbers():
    plain, kdna, odconv = summarize(RUNS, NAMES, [0, 1, 2])
    assert plain.values == {0: 10., 1: 14., 2: 12.} and not plain.missing
    assert plain.mean == 12 and plain.deviation == pytest.approx(2)
    assert plain.differences == {} and plain.parameters == 2_000_000
    # Seed 3 was not asked for, seed 2 was not run.
    assert kdna.values == {0: 11., 1: 16.} and kdna.missing == [2]
    assert kdna.mean == 13.5
    assert kdna.deviation == pytest.approx(12.5**0.5)
    # By pairs: 1 and 2.
    difference = kdna.differences['plain']
    assert (difference.mean, difference.pairs) == (1.5, 2)
    assert difference.deviation == pytest.approx(0.5**0.5)
    assert odconv.values == {} and odconv.mean is None
    assert odconv.missing == [0, 1, 2] and odconv.parameters is None


def test_one_seed_has_no_deviation():
    plain, kdna = summarize(RUNS, NAMES[:2], [0])
    assert (plain.mean, plain.deviation) == (10, None)
    assert kdna.differences == {'plain': Difference(1, None, 1)}


def test_a_table_says_where_seeds_are_missing():
    lines = summary_table(summarize(RUNS, NAMES, [0, 1, 2]), 1).splitlines()
    assert lines[0] == ('| experiment | parameters | mIoU | less plain, '
                        'paired |')
    assert lines[2] == '| plain | 2.00 M | 12.0 ± 2.0 | |'
    assert lines[3] == ('| kdna | 1.00 M | 13.5 ± 3.5 (2 of 3 seeds) | '
                        '+1.5 ± 0.7 (2 of 3 pairs) |')
    assert lines[4].replace(' ', '') == '|odconv||||'


def test_pairs_are_told_from_seeds():
    # All seeds of one, and one of what it is compared with.
    runs = [RUNS[0], *(run('kdna', seed, seed + 11.) for seed in range(3))]
    kdna = summarize(runs, NAMES, [0, 1, 2])[1]
    assert not kdna.missing and kdna.differences['plain'].pairs == 1
    lines = summary_table(summarize(runs, NAMES, [0, 1, 2]), 1).splitlines()
    assert lines[3] == '| kdna | 2.00 M | 12.0 ± 1.0 | +1.0 (1 of 3 pairs) |'


def test_a_narrower_control_has_a_column():
    runs = [*RUNS, run('plain-narrow', 0, 8.), run('plain-narrow', 1, 11.)]
    names = ['plain', 'kdna', 'plain-narrow']
    lines = summary_table(summarize(runs, names, [0, 1]), 1).splitlines()
    assert lines[0].endswith('| less plain, paired | less plain-narrow, '
                             'paired |')
    # 2 and 3; 3 and 5; nothing is compared with itself.
    assert lines[2].endswith('| | +2.5 ± 0.7 |')
    assert lines[3].endswith('| +1.5 ± 0.7 | +4.0 ± 1.4 |')
    assert lines[4].endswith('| -2.5 ± 0.7 | |')


def test_two_runs_of_one_seed_and_two_metrics_are_refused():
    with pytest.raises(ValueError, match='two runs of plain with seed 0'):
        summarize([RUNS[0], RUNS[0]], NAMES, [0])
    with pytest.raises(ValueError, match="'AP', 'mIoU'"):
        summarize([RUNS[0], run('kdna', 0, 1., 'AP')], NAMES, [0])


def test_the_front_is_what_nothing_beats():
    points = [(3, 5.), (1, 2.), (2, 2.), (2, 4.), (4, 5.), (5, 6.)]
    assert pareto_front(points) == [1, 3, 0, 5]
    assert pareto_front([]) == []
