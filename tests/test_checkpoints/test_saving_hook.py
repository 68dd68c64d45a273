"""What a run that is killed, or has no room to save, leaves."""
import os
import signal
import subprocess
import time

import pytest
from mmengine.hooks import CheckpointHook
from mmengine.registry import HOOKS

from mmkdna.checkpoints.files import load_with_state
from mmkdna.checkpoints.saving_hook import WholeCheckpointHook
from tests.forked_tools import start

SAVING = [
    'tiny.py', '--resume', '--work-dir', 'run', '--cfg-options',
    'model.backbone.base_channels=32', 'model.backbone.stem_channels=32',
    'model.head.in_channels=256', 'optim_wrapper.optimizer.momentum=0.9',
    'default_hooks.checkpoint.max_keep_ckpts=1'
]


@pytest.fixture
def train(classifier):
    """Train to the end of an epoch, or say how it ended."""
    pytest.importorskip('mmpretrain')

    def train(epochs, *options):
        log = classifier / 'log'
        process = start(
            'train',
            *SAVING,
            f'train_cfg.max_epochs={epochs}',
            *options,
            cwd=classifier,
            log=log)
        process.join(300)
        return process.exitcode, log.read_text()

    train.folder = classifier
    train.work_dir = classifier / 'run'
    return train


def checkpoints(work_dir):
    return sorted(path.name for path in work_dir.glob('*.pth'))


def test_takes_the_place_of_the_one_of_mmengine():
    hook = HOOKS.build(dict(type='CheckpointHook', interval=3))
    assert type(hook) is WholeCheckpointHook
    assert isinstance(hook, CheckpointHook) and hook.interval == 3


def test_the_best_one(train):
    """A kill before the new one is saved leaves the old one."""
    best = 'default_hooks.checkpoint.save_best=accuracy/top1'
    log = train.folder / 'log'
    process = start('train', *SAVING, best, cwd=train.folder, log=log)
    while process.is_alive() and not list(
            train.work_dir.glob('.best_*.unfinished')):
        time.sleep(0.0005)
    process.kill()
    process.join()
    assert process.exitcode == -signal.SIGKILL, log.read_text()
    load_with_state(train.work_dir / 'epoch_1.pth')
    code, out = train(2, best)
    assert code == 0 and 'resumed epoch: 1' in out
    names = checkpoints(train.work_dir)
    assert 'epoch_2.pth' in names and len(names) == 2
    for name in names:
        load_with_state(train.work_dir / name)
    assert not list(train.work_dir.glob('.*.unfinished'))


def test_what_was_replaced_before_a_kill_goes_later(train):
    assert train(1)[0] == 0
    first = (train.work_dir / 'epoch_1.pth').read_bytes()
    assert train(2)[0] == 0
    assert checkpoints(train.work_dir) == ['epoch_2.pth']
    # As if it had been killed before it has removed the first one.
    (train.work_dir / 'epoch_1.pth').write_bytes(first)
    assert train(3)[0] == 0
    assert checkpoints(train.work_dir) == ['epoch_3.pth']


@pytest.fixture
def small_disk(train):
    """A file system of its own, with a work_dir."""
    train.work_dir.mkdir()
    command = ['mount', '-t', 'tmpfs', '-o', 'size=45m', 'none']
    try:
        subprocess.run([*command, train.work_dir],
                       check=True,
                       capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip('only root can make a small disk')
    yield train.work_dir
    subprocess.run(['umount', '--lazy', train.work_dir], check=True)


@pytest.mark.parametrize('left', [0, 3_000_000])
def test_a_full_disk(left, train, small_disk):
    """The one before stays, and nothing of the new one."""
    assert train(1)[0] == 0
    whole = (small_disk / 'epoch_1.pth').read_bytes()
    named = (small_disk / 'last_checkpoint').read_text()
    room = os.statvfs(small_disk)
    with open(small_disk / 'other', 'wb') as file:
        file.write(b'x' * max(0, room.f_bavail * room.f_frsize - left))
    code, out = train(2)
    assert code == 1
    assert 'Traceback' not in out
    message = out.strip().splitlines()[-1]
    assert 'cannot be written: No space left on device' in message
    assert 'make room' in message and '--resume' in message
    assert (small_disk / 'epoch_1.pth').read_bytes() == whole
    assert (small_disk / 'last_checkpoint').read_text() == named
    assert not list(small_disk.glob('.*.unfinished'))
    (small_disk / 'other').unlink()
    code, out = train(2)
    assert code == 0 and 'resumed epoch: 1' in out
    assert checkpoints(small_disk) == ['epoch_2.pth']


def test_a_file_that_is_too_large(train):
    """As a quota has it, where nobody can make a small disk."""
    assert train(1)[0] == 0
    file = train.work_dir / 'epoch_1.pth'
    whole = file.read_bytes()
    config = train.folder / 'tiny.py'
    # With an import, mmengine may take it for a lazy one.
    config.write_text(f'''
__import__('resource').setrlimit(
    __import__('resource').RLIMIT_FSIZE, ({len(whole) - 9999}, ) * 2)
''' + config.read_text())
    code, out = train(2)
    assert code == 1 and 'Traceback' not in out
    message = out.strip().splitlines()[-1]
    assert 'run/epoch_2.pth cannot be written: File too large' in message
    assert file.read_bytes() == whole
    assert checkpoints(train.work_dir) == ['epoch_1.pth']
    assert not list(train.work_dir.glob('.*.unfinished'))
