"""A training that is killed while it saves goes on from a whole checkpoint."""
import os
import resource
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

from mmkdna.checkpoints.files import load_with_state
from mmkdna.launch.resuming import find_newest
from tests.runs import ROOT, TOOLS, logged, run_tool

pytest.importorskip('mmpretrain')

# Large enough that a save takes a while.
SAVING = [
    '--cfg-options', 'model.backbone.base_channels=64',
    'model.backbone.stem_channels=64', 'model.head.in_channels=512',
    'optim_wrapper.optimizer.momentum=0.9', 'train_cfg.max_epochs=4',
    'default_hooks.checkpoint.max_keep_ckpts=1'
]
UNFINISHED = ('.epoch_{}.pth.*', '.best_*_epoch_{}.pth.*')


def start(*args, cwd, **options):
    """Start tools/train.py."""
    env = dict(os.environ, PYTHONPATH=str(ROOT), OMP_NUM_THREADS='1')
    return subprocess.Popen(
        [sys.executable,
         str(TOOLS / 'train.py'), 'tiny.py', *args],
        cwd=cwd,
        env=env,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        **options)


def kill_while_saving(process, work_dir, patterns):
    """Kill a training in the middle of a save.

    Returns:
        list[str]: The unfinished files that are left.
    """
    while process.poll() is None:
        if any(list(work_dir.glob(pattern)) for pattern in patterns):
            # Stopped to look, for it may have gone on meanwhile.
            process.send_signal(signal.SIGSTOP)
            left = [file for p in patterns for file in work_dir.glob(p)]
            if left:
                process.send_signal(signal.SIGKILL)
                process.wait()
                return left
            process.send_signal(signal.SIGCONT)
        time.sleep(0.001)
    pytest.fail(process.stdout.read())


def losses(work_dir):
    """The losses of all runs in a work_dir, by step."""
    merged = {}
    for folder in sorted(Path(work_dir).glob('*/')):
        if (folder / 'vis_data').is_dir():
            steps = logged_in(folder)
            # A run that goes on does some steps of the killed one again.
            assert all(
                merged.get(step, loss) == loss for step, loss in steps.items())
            merged.update(steps)
    return merged


def logged_in(run):
    alone = run.parent / 'alone'
    alone.mkdir()
    run.rename(alone / run.name)
    try:
        return logged(alone)
    finally:
        (alone / run.name).rename(run)
        alone.rmdir()


def test_kills_while_saving(classifier):
    whole = classifier / 'whole'
    run_tool('train', 'tiny.py', '--work-dir', whole, *SAVING, cwd=classifier)
    expected = logged(whole)
    assert len(expected) == 16

    work_dir = classifier / 'killed'
    args = ['--work-dir', 'killed', *SAVING, '--resume']
    for epoch in (1, 2, 3):
        process = start(*args, cwd=classifier)
        left = kill_while_saving(process, work_dir,
                                 [UNFINISHED[0].format(epoch)])
        assert not (work_dir / f'epoch_{epoch}.pth').exists()
        # The one before is there and whole, and that is what is named.
        found = list(work_dir.glob('epoch_*.pth'))
        assert len(found) == (epoch > 1)
        for file in found:
            assert file.name == f'epoch_{epoch - 1}.pth'
            load_with_state(file)
        if epoch > 1:
            named = (work_dir / 'last_checkpoint').read_text()
            assert named.endswith(f'epoch_{epoch - 1}.pth')
        if epoch == 2:
            # As a kill of mmengine's own tools leaves them.
            (work_dir / 'last_checkpoint').write_text('')
            half = (work_dir / 'epoch_1.pth').read_bytes()[:-5000]
            (work_dir / 'epoch_2.pth').write_bytes(half)
            process = start(*args, cwd=classifier)
            left += kill_while_saving(process, work_dir,
                                      [UNFINISHED[0].format(epoch)])
    out = run_tool('train', 'tiny.py', *args, cwd=classifier)
    assert 'resumed epoch: 2' in out
    assert losses(work_dir) == expected
    assert not any(file.exists() for file in left)
    assert [file.name for file in work_dir.glob('*.pth')] == ['epoch_4.pth']


def test_a_kill_while_the_best_is_saved(classifier):
    options = [*SAVING, 'default_hooks.checkpoint.save_best=accuracy/top1']
    work_dir = classifier / 'killed'
    args = ['--work-dir', 'killed', '--resume', *options]
    process = start(*args, cwd=classifier)
    kill_while_saving(process, work_dir, [UNFINISHED[1].format(1)])
    assert not list(work_dir.glob('best_*'))
    load_with_state(work_dir / 'epoch_1.pth')
    out = run_tool('train', 'tiny.py', *args, cwd=classifier)
    assert 'resumed epoch: 1' in out
    best, = work_dir.glob('best_*.pth')
    load_with_state(best)


@pytest.fixture
def saved(tmp_path):
    """A config, and a function that saves a checkpoint of an epoch."""
    cfg = Config(dict(work_dir=str(tmp_path)))

    def save(name, time, data=None):
        path = tmp_path / name
        if data is None:
            torch.save(dict(state_dict=dict(a=torch.zeros(1))), path)
        else:
            path.write_bytes(data)
        os.utime(path, (time, time))
        return str(path)

    save.cfg, save.folder = cfg, tmp_path
    return save


def test_takes_the_newest_whole_one(saved):
    assert find_newest(saved.cfg) == (None, [])
    old = saved('epoch_12.pth', 10)  # of an earlier run
    second = saved('epoch_2.pth', 20)
    third = saved('epoch_3.pth', 30, b'half')
    saved('best_acc_epoch_3.pth', 40)
    last = saved.folder / 'last_checkpoint'

    path, said = find_newest(saved.cfg)
    assert path == second
    message, = said
    assert message.startswith(f'{third} is passed over by --resume: {third} ')
    last.write_text('')
    path, said = find_newest(saved.cfg)
    assert path == second
    assert 'last_checkpoint is passed over' in said[0] and len(said) == 2
    # All times are the same in a copy, or worse.
    for name in (old, second, third):
        os.utime(name, (50, 50))
    last.write_text('/moved/epoch_2.pth')
    assert find_newest(saved.cfg)[0] == second
    last.write_text('s3://bucket/epoch_7.pth')
    assert find_newest(saved.cfg) == ('s3://bucket/epoch_7.pth', [])


def test_takes_one_that_was_saved_but_not_named(saved):
    saved('epoch_2.pth', 20)
    third = saved('epoch_3.pth', 30)
    (saved.folder / 'last_checkpoint').write_text(saved('epoch_2.pth', 20))
    assert find_newest(saved.cfg) == (third, [])


def test_other_names_and_folders(saved):
    out = saved.folder / 'out' / saved.folder.name
    out.mkdir(parents=True)
    path = out / 'step-7.pth'
    torch.save({}, path)
    saved.cfg.default_hooks = dict(
        checkpoint=dict(
            out_dir=str(saved.folder / 'out'), filename_tmpl='step-{}.pth'))
    assert find_newest(saved.cfg) == (str(path), [])


def limit_files():
    """Let no file grow beyond 60 MB, as a quota does."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (60_000_000, 60_000_000))


def test_a_file_that_is_too_large(classifier):
    """The one before stays, and nothing of the new one."""
    run_tool(
        'train',
        'tiny.py',
        '--work-dir',
        'small',
        *SAVING,
        'train_cfg.max_epochs=1',
        'default_hooks.checkpoint.save_optimizer=False',
        cwd=classifier)
    work_dir = classifier / 'small'
    before = (work_dir / 'epoch_1.pth').read_bytes()
    args = [
        '--work-dir', 'small', *SAVING, 'train_cfg.max_epochs=2',
        f'load_from={work_dir / "epoch_1.pth"}'
    ]
    process = start(*args, cwd=classifier, preexec_fn=limit_files)
    out, _ = process.communicate()
    assert process.returncode == 1
    assert 'Traceback' not in out
    message = out.strip().splitlines()[-1]
    for part in ('small/epoch_1.pth cannot be written: File too large',
                 'make room', '--resume'):
        assert part in message
    assert (work_dir / 'epoch_1.pth').read_bytes() == before
    assert not list(work_dir.glob('.*'))
