"""Ctrl-C and SIGTERM end a command in one line."""
import os
import re
import signal
import subprocess
import sys
import time

import pytest
import torch

from mmkdna.launch.model import init_model
from tests import forked_tools
from tests.runs import TOOLS, hear_interrupts

pytest.importorskip('mmpretrain')

WORKERS = '''
train_dataloader = dict(num_workers=2)
train_cfg = dict(max_epochs=1000)
default_hooks = dict(checkpoint=dict(interval=1000))
test_dataloader = dict(
    _delete_=True, batch_size=1, num_workers=2,
    sampler=dict(type='DefaultSampler', shuffle=False),
    dataset=dict(
        type='RepeatDataset', times=1000, dataset=dict(
            type='CustomDataset', data_root='data', with_label=True,
            pipeline={{_base_.pipeline}})))
'''


def of_session(leader):
    """The processes that a process has started, and itself."""
    found = []
    for entry in filter(str.isdigit, os.listdir('/proc')):
        try:
            with open(f'/proc/{entry}/stat') as file:
                state, _, _, session = file.read().rpartition(
                    ') ')[2].split()[:4]
        except OSError:
            continue
        if int(session) == leader and state != 'Z':
            found.append(int(entry))
    return found


@pytest.fixture
def start(classifier):
    """Start a tool that has workers, and wait until it is at work."""
    (classifier / 'workers.py').write_text("_base_ = 'tiny.py'\n" + WORKERS)
    model = init_model(str(classifier / 'workers.py'))
    torch.save(dict(state_dict=model.state_dict()), classifier / 'start.pth')
    started = []

    def start(tool, *args):
        log = classifier / f'{len(started)}.log'
        checkpoint = ['start.pth'] * (tool == 'test')
        process = forked_tools.start(
            tool, 'workers.py', *checkpoint, *args, cwd=classifier, log=log)
        started.append(process)
        for _ in range(1200):
            assert process.is_alive(), log.read_text()
            text = log.read_text()
            # mmengine pads the numbers.
            if re.search(r'Epoch\((train\) +\[3\]|test\) +\[)', text):
                break
            time.sleep(0.05)
        return process, log

    yield start
    for process in started:
        process.kill()


@pytest.mark.parametrize('tool, number, group', [
    ('train', signal.SIGINT, True),
    pytest.param('train', signal.SIGTERM, False, marks=pytest.mark.slow),
    pytest.param('test', signal.SIGINT, True, marks=pytest.mark.slow),
    ('test', signal.SIGTERM, False),
])
def test_one_line_and_nothing_left(tool, number, group, start):
    process, log = start(tool)
    assert len(of_session(process.pid)) > 2, log.read_text()
    if group:  # as Ctrl-C in a shell
        os.killpg(process.pid, number)
    else:
        os.kill(process.pid, number)
    process.join(60)
    assert process.exitcode == 128 + number
    assert not of_session(process.pid)
    text = log.read_text()
    assert 'Traceback' not in text
    line = f'Ended by {signal.Signals(number).name}. What was saved'
    assert text.splitlines()[-1].startswith(line)
    assert text.count('Ended by') == 1


@pytest.mark.skipif(
    not os.path.isdir('/proc/self'), reason='there is no /proc here')
@pytest.mark.parametrize('tool', ['train', 'test'])
def test_while_the_libraries_load(tool, tmp_path):
    process = subprocess.Popen([sys.executable, TOOLS / f'{tool}.py'],
                               stdout=subprocess.PIPE,
                               stderr=subprocess.STDOUT,
                               text=True,
                               preexec_fn=hear_interrupts)
    # Once the first of them is there, Python itself has started.
    while 'libtorch' not in open(f'/proc/{process.pid}/maps').read():
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    assert process.communicate()[0] == 'Ended by SIGINT\n'
    assert process.returncode == 130


SWALLOWS = '''
import os, signal, time
from mmkdna.launch.interrupts import ended_by_signals

class Swallows:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(1)

with ended_by_signals(True, False):
    Swallows()
    {then}
'''


@pytest.mark.parametrize('then', ['time.sleep(60)', 'pass'])
def test_where_nothing_can_be_raised(then, tmp_path):
    script, log = tmp_path / 'swallows.py', tmp_path / 'log'
    script.write_text(SWALLOWS.format(then=then))
    process = forked_tools.start(script, cwd=tmp_path, log=log)
    process.join(30)
    assert process.exitcode == 143
    line, = log.read_text().splitlines()
    assert line.startswith('Ended by SIGTERM. ')


def test_a_forked_loader_whose_reader_is_gone(tmp_path):
    script, log = tmp_path / 'gone.py', tmp_path / 'log'
    script.write_text('''
import multiprocessing
import time
from multiprocessing import connection, resource_sharer
from mmkdna.launch.interrupts import ended_by_signals

def load(pipe):
    pipe.send(resource_sharer.DupFd(1)._id[0])
    time.sleep(0.5)
    raise ValueError('of its own')

with ended_by_signals(True, False):
    fork = multiprocessing.get_context('fork')
    ours, theirs = fork.Pipe()
    loader = fork.Process(target=load, args=(theirs, ))
    loader.start()
    connection.Client(ours.recv()).close()
    loader.join()
''')
    process = forked_tools.start(script, cwd=tmp_path, log=log)
    process.join(30)
    text = log.read_text()
    assert process.exitcode == 0
    assert text.count('Traceback') == 1
    assert text.splitlines()[-1] == 'ValueError: of its own'


def test_a_shell_has_it_ignored(tmp_path):
    script, log = tmp_path / 'ignores.py', tmp_path / 'log'
    script.write_text('''
import os, signal
from mmkdna.launch.interrupts import ended_by_signals

signal.signal(signal.SIGINT, signal.SIG_IGN)
with ended_by_signals(True, False):
    os.kill(os.getpid(), signal.SIGINT)
    print('went on')
''')
    process = forked_tools.start(script, cwd=tmp_path, log=log)
    process.join(30)
    assert process.exitcode == 0
    assert log.read_text() == 'went on\n'


def test_others_of_a_distributed_run_end_at_once(tmp_path):
    script, log = tmp_path / 'other.py', tmp_path / 'log'
    script.write_text('''
import ctypes
from mmkdna.launch.interrupts import ended_by_signals

sleep = ctypes.CDLL(None).sleep  # in C, as a wait for other processes
with ended_by_signals(False, False):
    print('waits', flush=True)
    while sleep(60):
        pass
''')
    process = forked_tools.start(script, cwd=tmp_path, log=log)
    while 'waits' not in log.read_text():
        assert process.is_alive()
        time.sleep(0.05)
    process.terminate()
    process.join(30)
    assert process.exitcode == -signal.SIGTERM
