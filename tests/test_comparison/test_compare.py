"""tools/analysis_tools/compare.py on a task that takes seconds."""
import json

import pytest

from mmkdna.comparison import (TASKS, config_hash, find_experiments,
                               find_tasks, read_experiment, read_records)
from mmkdna.launch.model import init_model
from tests.runs import ROOT
from tests.test_comparison.tasks import TOOL, compare, make_task
from tests.test_tools import conftest as tools

classifier, refuse = tools.classifier, tools.refuse


@pytest.fixture
def task(classifier):
    """A task of two experiments, in the current folder."""
    return make_task(classifier)


def test_runs_what_is_missing_and_reports(task):
    out = compare(task, '--seeds', '0', '1', '--experiments', 'plain')
    assert '0 of 2 runs are there' in out and '2 of 2 runs' in out
    results = task / 'docs' / 'results' / 'tiny'
    record = json.loads((results / 'plain_seed-1.json').read_text())
    plain = init_model(str(task / 'tasks' / 'tiny' / 'plain.py'))
    assert record['parameters'] == sum(p.numel() for p in plain.parameters())
    assert record['metric'] == 'accuracy/top1'
    assert 0 <= record['value'] <= 100 and record['seed'] == 1
    assert record['training_seconds'] > 0 and record['peak_memory'] > 1e8
    assert record['weights_bytes'] >= 4 * record['parameters']
    assert 'accuracy/top1' in record['metrics']
    assert not {'time', 'data_time'} & set(record['metrics'])
    assert str(task) not in json.dumps(record)
    # What was not run is an empty cell.
    table = (results / 'README.md').read_text()
    assert '| kdna | | ' in table and '± ' in table
    assert (results / 'comparison.svg').is_file()
    before = (results / 'plain_seed-0.json').read_text()
    out = compare(task, '--seeds', '0', '--jobs', '2')
    # That of plain is there; its file stays as it is.
    assert '1 of 2 runs are there' in out and '1 of 1 runs' in out
    assert (results / 'plain_seed-0.json').read_text() == before
    assert 'plain, paired' in out
    config = task / 'tasks' / 'tiny' / 'plain.py'
    config.write_text(config.read_text() + 'randomness = dict(seed=5)\n')
    out = compare(task, '--seeds', '0', '--no-training')
    assert 'runs are there' not in out
    assert 'tiny plain_seed-0 is left out' in out
    assert '| plain | | ' in out
    (task / 'data' / 'dark').rename(task / 'elsewhere')
    (task / 'data' / 'bright').rename(task / 'further')
    out = compare(task, '--seeds', '0', '--experiments', 'plain', fails=True)
    assert '0 of 1 runs are there' in out
    assert 'tiny plain_seed-0: the training ended with 1' in out


def test_what_is_not_there_is_named(task, refuse):
    configs = ('--configs', 'tasks')
    assert 'one of tiny is expected' in refuse(TOOL, 'huge', *configs)
    assert 'one of plain, kdna is expected' in refuse(TOOL, 'tiny', *configs,
                                                      '--experiments',
                                                      'odconv')
    assert 'no such folder' in refuse(TOOL, 'tiny', '--configs', 'none')
    assert '1 or more is expected' in refuse(TOOL, 'tiny', *configs, '--jobs',
                                             '0')
    twice = '--seeds 0 1 0 is given, each once is expected'
    assert twice in refuse(TOOL, 'tiny', *configs, '--seeds', '0', '1', '0')
    (task / 'tasks' / 'tiny' / 'plain.py').unlink()
    assert 'but tiny has no plain.py' in refuse(TOOL, 'tiny', *configs,
                                                '--latency')


def test_a_training_without_a_result_fails_alone(task):
    folder = task / 'tasks' / 'tiny'
    for name, lines in dict(
            kdna='',
            metric='val_evaluator = dict(topk=(2, ))\n'
            'test_evaluator = val_evaluator\n',
            saved='default_hooks = dict('
            'checkpoint=dict(interval=-1, save_last=False))\n').items():
        if lines:
            path = folder / f'{name}.py'
            path.write_text(f'_base_ = "./kdna.py"\n{lines}')
    out = compare(task, '--seeds', '0', fails=True)
    ended = 'seed-0: the training ended without'
    assert f'tiny metric_{ended} accuracy/top1' in out
    assert f'tiny saved_{ended} a checkpoint' in out
    assert '4 of 4 runs' in out
    results = (task / 'docs' / 'results' / 'tiny').glob('*_seed-0.json')
    assert {path.stem for path in results} == {'kdna_seed-0', 'plain_seed-0'}


def test_where_the_data_lie_is_not_in_a_hash(monkeypatch):
    configs = find_experiments('bccd-pretrained')
    hashes = {}
    for name in ('plain', 'kdna'):
        for folder in ('data', '/d', '/a' + '/long' * 30):
            monkeypatch.setenv('MMKDNA_DATA', folder)
            hashes.setdefault(name, set()).add(config_hash(configs[name]))
    (plain, ), (kdna, ) = hashes.values()
    assert plain != kdna


@pytest.mark.parametrize('task', find_tasks())
def test_the_results_there_are_are_of_the_configs_there_are(task, monkeypatch):
    monkeypatch.setenv('MMKDNA_DATA', 'data')
    hashes = {k: config_hash(v) for k, v in find_experiments(task).items()}
    records = read_records(ROOT / 'docs' / 'results' / task)
    for record in records:
        assert record['hash'] == hashes[record['experiment']], record['seed']


def conv_cfgs(node):
    """A config without its conv_cfgs."""
    if isinstance(node, dict):
        return {k: conv_cfgs(v) for k, v in node.items() if k != 'conv_cfg'}
    if isinstance(node, (list, tuple)):
        return [conv_cfgs(item) for item in node]
    return node


@pytest.mark.parametrize('task', find_tasks())
def test_experiments_differ_in_their_convolutions_only(task, monkeypatch):
    monkeypatch.setenv('MMKDNA_DATA', 'data')
    experiments = find_experiments(task)
    assert next(iter(experiments)) == 'plain'
    plain = conv_cfgs(read_experiment(experiments['plain']).to_dict())
    for name, path in experiments.items():
        cfg = conv_cfgs(read_experiment(path).to_dict())
        if name in ('plain-narrow', 'plain-paper', 'kdna-paper'):
            # Another width or topology, of the model alone.
            assert cfg.pop('model') != plain['model']
            assert cfg == {k: v for k, v in plain.items() if k != 'model'}
        else:
            if name.startswith(('dyconv', 'odconv', 'kernelwarehouse')):
                hook, = cfg.pop('custom_hooks')
                assert hook['type'] == 'TemperatureHook'
            if name in ('kdna-reconstructed', 'kdna-gradual'):
                hook, = cfg.pop('custom_hooks')
                assert hook['type'] in ('ReconstructionHook',
                                        'KernelSharingHook')
            if name == 'kdna-fast-adapters':
                paramwise = cfg['optim_wrapper'].pop('paramwise_cfg')
                assert list(paramwise['custom_keys']) == ['.adapter.']
            assert cfg == plain, name


@pytest.mark.parametrize('task', find_tasks())
def test_the_narrow_control_has_as_many_parameters(task, monkeypatch):
    experiments = find_experiments(task)
    if 'plain-narrow' not in experiments:
        pytest.skip('there are no weights of a narrower network')
    monkeypatch.setenv('MMKDNA_DATA', 'data')
    ours, narrow = (
        sum(p.numel() for p in init_model(str(experiments[name])).parameters())
        for name in ('kdna', 'plain-narrow'))
    assert narrow == pytest.approx(ours, rel=0.01)


def test_every_task_has_every_conv_type():
    for task in find_tasks():
        assert {
            'plain', 'kdna', 'kdna-tied', 'kdna-own-kernels', 'se', 'condconv',
            'dyconv', 'odconv', 'kernelwarehouse'
        } <= set(find_experiments(task)), TASKS / task
