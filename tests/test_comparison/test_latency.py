"""Latencies: measured, kept with their configs, drawn and tabled."""
import json

import pytest

from mmkdna.comparison import (Latency, draw_comparison, find_experiments,
                               measure_latency, read_latency, summarize,
                               summary_table)
from mmkdna.comparison.latency import deployed_model
from mmkdna.comparison.picture import comparison_figure
from mmkdna.sharing import named_convs
from tests.test_comparison.tasks import compare, make_task
from tests.test_comparison.test_summary import NAMES, RUNS
from tests.test_tools import conftest as tools

classifier = tools.classifier
TIMES = dict(plain=Latency(2., 1.5, 4.), kdna=Latency(1.25, 1., 1.75))


@pytest.fixture
def task(classifier):
    return make_task(classifier)


def test_models_are_timed_on_a_picture_of_the_task(task):
    file = measure_latency(
        find_experiments('tiny', task / 'tasks'),
        'cpu',
        threads=1,
        rounds=3,
        seconds=0.001)
    assert file['image'] == [32, 32] and file['form'] == 'deployed'
    assert file['machine']['threads'] == 1 and file['machine']['processor']
    plain, kdna = file['experiments'].values()
    assert plain['ratio'] == dict(min=1, median=1, max=1)
    # Of the time of plain in the same round.
    least, median, greatest = sorted(
        one / other
        for one, other in zip(kdna['milliseconds'], plain['milliseconds']))
    assert kdna['ratio'] == pytest.approx(
        dict(min=least, median=median, max=greatest))


def test_children_are_timed_with_folded_kernels(task):
    model = deployed_model(task / 'tasks' / 'tiny' / 'kdna.py')
    assert not model.training
    roles = {conv.role for conv in named_convs(model).values()}
    assert roles == {'plain'}


def test_they_are_kept_with_their_configs(tmp_path):
    file = tmp_path / 'latency.json'
    assert read_latency(file, {}) == ({}, [])
    file.write_text(
        json.dumps(
            dict(
                experiments={
                    name: dict(hash=name, milliseconds=[3., 1., 2.])
                    for name in ('plain', 'changed', 'gone')
                })))
    hashes = dict(plain='plain', changed='0', new='1')
    assert read_latency(file, hashes) == (dict(plain=Latency(2., 1., 3.)),
                                          ['changed', 'gone'])


def test_the_command(task):
    experiments = task / 'tasks' / 'tiny'
    out = compare(task, '--no-training', '--latency', '--seeds', '0')
    file = json.loads(
        (task / 'docs' / 'results' / 'tiny' / 'latency.json').read_text())
    assert list(file['experiments']) == ['plain', 'kdna']
    for entry in file['experiments'].values():
        assert len(entry['milliseconds']) == 10
        assert min(entry['milliseconds']) > 0
    assert 'ms, deployed' in out and 'latency of tiny' not in out
    config = experiments / 'plain.py'
    config.write_text(config.read_text() + 'randomness = dict(seed=5)\n')
    out = compare(task, '--no-training', '--seeds', '0')
    assert 'The latency of tiny plain is left out' in out
    row, = [line for line in out.splitlines() if line.startswith('| plain ')]
    assert row == '| plain | | | | |'


def test_a_table_has_them():
    lines = summary_table(summarize(RUNS, NAMES, [0, 1, 2]), 1,
                          TIMES).splitlines()
    assert lines[0].endswith('| ms, deployed (least to greatest) |')
    assert lines[2].endswith('| 2.00 (1.50 to 4.00) |')
    assert lines[4] == '| odconv | | | | |'


@pytest.mark.parametrize('latencies, panels', [(None, 1), ({}, 1), (TIMES, 2)])
def test_a_picture_has_a_panel_of_them(latencies, panels):
    figure = comparison_figure(
        summarize(RUNS, NAMES, [0, 1, 2]), 'task', latencies)
    assert len(figure.axes) == panels
    assert figure.axes[0].get_ylabel() == 'mIoU'
    for axes, costs in zip(figure.axes, ([2., 1.], [2., 1.25])):
        assert [text.xy for text in axes.texts] == list(zip(costs, [12, 13.5]))
        assert [text.get_text() for text in axes.texts] == NAMES[:2]


def test_a_picture_is_written_whole_or_not_at_all(tmp_path):
    summaries = summarize(RUNS, NAMES, [0, 1, 2])
    draw_comparison(summaries, tmp_path / 'a.svg', 'task', TIMES)
    assert (tmp_path / 'a.svg').read_text().rstrip().endswith('</svg>')
    with pytest.raises(ValueError):
        draw_comparison(summaries, tmp_path / 'a.none', 'task')
    assert [path.name for path in tmp_path.iterdir()] == ['a.svg']
