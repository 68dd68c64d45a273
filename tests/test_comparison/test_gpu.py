"""What is different on a GPU, as far as a CPU can tell."""
import json

import pytest
import torch
from mmengine.config import Config

from mmkdna.comparison import (Run, config_hash, find_experiments, find_tasks,
                               gpu_options, read_experiment, train_command)
from tests.runs import run
from tests.test_comparison.tasks import TOOL, compare, make_task
from tests.test_tools import conftest as tools

classifier, refuse = tools.classifier, tools.refuse
CUDA = '''
cuda = {'train_cfg.max_epochs': 2, 'train_dataloader.batch_size': 4}
'''


@pytest.fixture
def task(classifier):
    """A task with sizes for a GPU."""
    make_task(classifier)
    config = classifier / 'tasks' / 'tiny' / 'kdna.py'
    config.write_text(config.read_text() + CUDA)
    return classifier


def test_the_sizes_count_on_a_gpu_only(task):
    config = task / 'tasks' / 'tiny' / 'kdna.py'
    with_sizes = config_hash(config)
    assert config_hash(config, 'cuda') != with_sizes
    config.write_text(config.read_text().replace(CUDA, ''))
    assert config_hash(config) == with_sizes
    assert config_hash(config, 'cuda') == with_sizes
    assert gpu_options(config) == {}


def test_a_training_gets_the_sizes(task):
    config = task / 'tasks' / 'tiny' / 'kdna.py'
    ours = Run('tiny', 'kdna', 3, config, 'cuda')
    assert ours.folder == 'tiny-cuda'
    # The same command runs here as well.
    run(*train_command(ours, task / 'work'), cwd=task)
    cfg = Config.fromfile(task / 'work' / 'kdna.py')
    assert cfg.train_cfg.max_epochs == 2 and cfg.randomness.seed == 3
    assert cfg.train_dataloader.batch_size == 4
    assert not any(
        'cuda' in part
        for part in train_command(ours._replace(device='cpu'), task)
        if 'batch_size' in part)
    assert len(train_command(
        ours,
        task)) == 2 + len(train_command(ours._replace(device='cpu'), task))


def test_results_of_both_are_never_mixed(task, refuse):
    out = compare(task, '--seeds', '0', '--experiments', 'plain')
    assert '1 of 1 runs' in out
    if not torch.cuda.is_available():
        assert 'torch finds no such device' in refuse(TOOL, 'tiny',
                                                      '--configs', 'tasks',
                                                      '--device', 'cuda')
    # Of other configs, and of the same.
    for text in ('', CUDA):
        path = task / 'tasks' / 'tiny' / 'kdna.py'
        path.write_text(path.read_text().replace(CUDA, '') + text)
        out = compare(task, '--device', 'cuda', '--no-training')
        assert '| plain | | | |' in out and 'left out' not in out
        folder = task / 'docs' / 'results' / 'tiny-cuda'
        assert not list(folder.glob('*_seed-*'))
    values = json.loads((folder / 'summary.json').read_text())
    assert not any(experiment['values'] for experiment in values)


@pytest.mark.parametrize('task', find_tasks())
def test_the_sizes_fit_every_experiment(task, monkeypatch):
    monkeypatch.setenv('MMKDNA_DATA', 'data')
    experiments = find_experiments(task)
    common = gpu_options(experiments['plain'])
    for name, path in experiments.items():
        here, there = read_experiment(path), read_experiment(path, 'cuda')
        assert 'cuda' not in here and here.model == there.model
        for key, value in gpu_options(path).items():
            old = here
            # What is set is there already, so nothing is misspelt.
            for part in key.split('.'):
                old = old[int(part) if part.isdigit() else part]
            assert old != value, key
            if key in common:
                assert value == common[key], name
        # The schedule ends with the training, and sharpening in a third.
        loop = there.train_cfg
        length = loop.get('max_epochs') or loop.max_iters
        assert loop.val_interval == length
        cosine = there.param_scheduler[1]
        assert cosine.T_max == cosine.end == length
        for hook in there.get('custom_hooks') or ():
            if hook.type == 'TemperatureHook':
                assert 0.3 <= hook.end / length <= 0.4, name


def test_it_is_said_before_anything_is_trained(task, refuse):
    if torch.cuda.is_available():
        pytest.skip('there is a GPU')
    for flags in (['--latency'], ['--latency', '--no-training']):
        assert '--device cpu is expected' in refuse(TOOL, 'tiny', '--configs',
                                                    'tasks', '--device',
                                                    'cuda', *flags)
