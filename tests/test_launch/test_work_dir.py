"""What a run needs of its work_dir, and that it has it alone."""
import errno
import fcntl
import os
import signal
import time

import pytest
from mmengine.config import Config

from mmkdna.launch.errors import CommandError
from mmkdna.launch.work_dir import check_work_dir, held_work_dir
from tests import forked_tools

HOLD = '''
import os, time
from mmengine.config import Config
from mmkdna.launch.work_dir import held_work_dir

with held_work_dir(Config(dict(work_dir='run', launcher='none'))):
    if os.fork():
        print('held', flush=True)
    time.sleep(60)
'''


@pytest.fixture
def holder(tmp_path, monkeypatch):
    """A process that holds the work_dir, and has forked another one."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'hold.py').write_text(HOLD)
    log = tmp_path / 'log'
    process = forked_tools.start(tmp_path / 'hold.py', cwd=tmp_path, log=log)
    while 'held' not in log.read_text():
        assert process.is_alive()
        time.sleep(0.05)
    yield process
    os.killpg(process.pid, signal.SIGKILL)


def test_one_run_at_a_time(holder, monkeypatch):
    cfg = Config(dict(work_dir='run', launcher='none'))
    said = f'run is the work_dir, but another run .* process {holder.pid} on '
    with pytest.raises(CommandError, match=said):
        with held_work_dir(cfg):
            pass
    # Other processes of the same run rely on the first one.
    monkeypatch.setenv('RANK', '1')
    with held_work_dir(Config(dict(work_dir='run', launcher='pytorch'))):
        pass
    # What is killed gives it up, whatever it has forked.
    holder.kill()
    holder.join()
    with held_work_dir(cfg):
        with open('run/.lock') as file:
            assert f'process {os.getpid()} on ' in file.read()


def test_a_file_system_without_locks(tmp_path, monkeypatch):

    def lockf(*_):
        raise OSError(errno.ENOLCK, 'No locks available')

    monkeypatch.setattr(fcntl, 'lockf', lockf)
    with held_work_dir(Config(dict(work_dir=tmp_path, launcher='none'))):
        pass


def test_a_second_training(classifier):
    """It is told, and leaves the first one alone."""
    pytest.importorskip('mmpretrain')
    args = ['tiny.py', '--resume', '--cfg-options', 'train_cfg.max_epochs=99']
    first, second = (
        forked_tools.start('train', *args, cwd=classifier, log=log)
        for log in map(classifier.joinpath, ('first.log', 'second.log')))
    processes = [first, second]
    while all(process.is_alive() for process in processes):
        time.sleep(0.05)
    told, = (p for p in processes if not p.is_alive())
    other, = (p for p in processes if p.is_alive())
    assert told.exitcode == 1
    log = classifier / ('first.log' if told is first else 'second.log')
    line = log.read_text().splitlines()[-1]
    assert line.startswith('./work_dirs/tiny is the work_dir, but another run')
    assert f'process {other.pid} on ' in line
    while not (classifier / 'work_dirs/tiny/last_checkpoint').exists():
        assert other.is_alive()
        time.sleep(0.05)
    other.kill()
    other.join()
    assert len(list(classifier.glob('work_dirs/tiny/*/'))) == 1


@pytest.mark.parametrize('inner', ['', '/run'])
def test_a_file(inner, tmp_path):
    (tmp_path / 'file').touch()
    with pytest.raises(CommandError, match='file is no folder: give another'):
        check_work_dir(f'{tmp_path}/file{inner}')


def test_what_cannot_be_written_to():
    # /proc takes no files, not even of root.
    check_work_dir('none/yet')
    with pytest.raises(CommandError, match='/proc/self cannot be written to'):
        check_work_dir('/proc/self/run')
