"""Trainings of compare.py that are killed, ended or stopped late."""
import json
import os
import signal
import time

import pytest
import torch

from tests.test_comparison.tasks import compare, make_task, start
from tests.test_tools import conftest as tools

classifier = tools.classifier
ONE = ('--seeds', '0', '--experiments', 'kdna')
NAME = 'kdna_seed-0'
EPOCHS = 25


@pytest.fixture
def task(classifier, monkeypatch):
    """A task that takes some seconds, and saves after each epoch."""
    monkeypatch.setenv('OMP_NUM_THREADS', '1')
    make_task(classifier)
    config = classifier / 'tasks' / 'tiny' / 'kdna.py'
    config.write_text(config.read_text() + f'''
train_cfg = dict(by_epoch=True, max_epochs={EPOCHS}, val_interval={EPOCHS})
optim_wrapper = dict(optimizer=dict(type='SGD', lr=0.01, momentum=0.9))
''')
    return classifier


def wait_for(find, process):
    """Wait until something is found, and the process still runs."""
    end = time.time() + 300
    while not find():
        assert process.poll() is None, process.stdout.read()
        assert time.time() < end
        time.sleep(0.05)


def saved(folder):
    """The checkpoints of the run, by when they were saved."""
    return sorted(
        folder.glob(f'work_dirs/comparison/tiny/{NAME}_*/*.pth'),
        key=os.path.getmtime)


def running(folder):
    """The ids of the processes that work in a folder."""
    found = []
    for entry in os.listdir('/proc'):
        if entry.isdigit():
            try:
                if os.readlink(f'/proc/{entry}/cwd') == str(folder):
                    found.append(int(entry))
            except OSError:
                pass
    return set(found) - {os.getpid()}


def weights(folder):
    file = torch.load(saved(folder)[-1], weights_only=False)
    return file['state_dict']


def record(folder):
    file = folder / 'docs' / 'results' / 'tiny' / f'{NAME}.json'
    return json.loads(file.read_text())


def test_killed_within_a_training(task, tmp_path_factory):
    process = start(task, *ONE)
    wait_for(lambda: len(saved(task)) >= 3, process)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    seen = len(saved(task))
    assert 3 <= seen < EPOCHS
    assert not (task / 'docs').exists()
    compare(task, *ONE)
    killed, ours = record(task), weights(task)
    # The second process has gone on, not begun.
    first, second = sorted(task.glob('work_dirs/**/scalars.json'))
    steps = [json.loads(x)['step'] for x in second.read_text().splitlines()]
    assert min(steps) > 4 * (seen - 1)
    # An undisturbed run has the same metric, by the same weights.
    for name in ('docs', 'work_dirs'):
        (task / name).rename(tmp_path_factory.mktemp('first') / name)
    compare(task, *ONE)
    for name in ('value', 'hash', 'parameters'):
        assert record(task)[name] == killed[name], name
    theirs = weights(task)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    # A run that was killed within its last validation still gets a metric.
    folder = saved(task)[0].parent
    before = record(task)
    (task / 'docs' / 'results' / 'tiny' / f'{NAME}.json').unlink()
    scalars, = folder.glob('*/vis_data/scalars.json')
    scalars.write_text('\n'.join(line
                                 for line in scalars.read_text().splitlines()
                                 if 'top1' not in line))
    compare(task, *ONE)
    for name in ('value', 'hash', 'training_seconds'):
        assert record(task)[name] == before[name], name


@pytest.mark.parametrize('number', [signal.SIGTERM, signal.SIGINT])
def test_an_interrupt_leaves_no_training(number, task):
    process = start(task, '--seeds', '0', '1', '2', '--jobs', '2')
    wait_for(lambda: saved(task), process)
    assert len(running(task)) >= 2
    # To this process alone, as by kill; Ctrl-C in a shell is for all.
    process.send_signal(number)
    assert process.wait(60) == 128 + number
    assert 'give the same command again' in process.stdout.read()
    assert not running(task)
    assert not (task / 'docs').exists()
    # They were ended, not waited for.
    assert not list(task.glob(f'work_dirs/**/epoch_{EPOCHS}.pth'))


def test_a_training_that_outlives_its_command_is_not_doubled(task):
    process = start(task, *ONE)
    wait_for(lambda: saved(task), process)
    process.kill()
    process.wait()
    try:
        left = running(task)
        assert left
        for training in left:
            # It is not to end before the command below looks.
            os.kill(training, signal.SIGSTOP)
        out = compare(task, *ONE, fails=True)
        assert f'tiny {NAME}: a process that was started before' in out
    finally:
        for left in running(task):
            os.kill(left, signal.SIGKILL)
    while running(task):
        time.sleep(0.05)
    assert '1 of 1 runs' in compare(task, *ONE)
