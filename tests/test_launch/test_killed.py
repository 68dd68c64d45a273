"""A training that is killed at any moment goes on to the same losses."""
import importlib.util
import random
import signal
import time
from pathlib import Path

import pytest

from mmkdna.checkpoints.files import load_with_state
from tests.forked_tools import start
from tests.runs import logged_by_run

pytest.importorskip('mmpretrain')

STEPS = 4
UNFINISHED = '.*.unfinished'
OPTIONS = [
    '--cfg-options', 'model.backbone.base_channels=32',
    'model.backbone.stem_channels=32', 'model.head.in_channels=256',
    'optim_wrapper.optimizer.momentum=0.9', 'val_cfg=None',
    'val_dataloader=None', 'val_evaluator=None',
    'default_hooks.checkpoint.max_keep_ckpts=1',
    'train_dataloader.persistent_workers=False'
]
# mmpretrain's own script, which knows mmkdna by the config only.
HOSTS = Path(importlib.util.find_spec(
    'mmpretrain').origin).parent / '.mim' / 'tools' / 'train.py'


class Training:
    """A run that is killed and goes on, again and again."""

    def __init__(self, folder, tool, epochs):
        self.folder, self.tool = folder, tool
        self.work_dir = folder / 'killed'
        self.args = ['tiny.py', *OPTIONS, f'train_cfg.max_epochs={epochs}']
        self.saving = 0  # kills while a file was written

    def start(self, work_dir='killed', resume=('--resume', )):
        self.log = self.folder / f'{work_dir}.log'
        return start(
            self.tool,
            *self.args,
            '--work-dir',
            work_dir,
            *resume,
            cwd=self.folder,
            log=self.log)

    def finish(self, process):
        process.join(600)
        assert process.exitcode == 0, self.log.read_text()

    def saved(self):
        """The number of the newest checkpoint that has its name."""
        names = [file.stem for file in self.work_dir.glob('epoch_*.pth')]
        return max([int(name[len('epoch_'):]) for name in names], default=0)

    def kill_while_saving(self, process, after, delay):
        """Kill when so many more epochs are saved, within the next save."""
        goal = self.saved() + after
        while process.is_alive():
            if self.saved() >= goal and list(self.work_dir.glob(UNFINISHED)):
                time.sleep(delay)
                break
            time.sleep(0.0005)
        self.kill(process)

    def kill_after(self, process, seconds):
        """Kill at any time, but before much is saved."""
        end, goal = time.time() + seconds, self.saved() + 4
        while time.time() < end and self.saved() < goal:
            time.sleep(0.01)
        self.kill(process)

    def kill(self, process):
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, self.log.read_text()
        self.saving += bool(list(self.work_dir.glob(UNFINISHED)))
        # Once one has been saved, there is always a whole one, and it is the
        # named one or newer.
        if self.saved():
            load_with_state(self.work_dir / f'epoch_{self.saved()}.pth')
        last = self.work_dir / 'last_checkpoint'
        if last.exists():
            named = self.folder / last.read_text()
            assert named.exists()
            load_with_state(named)

    def check(self, expected):
        """Compare what all processes have logged with an undisturbed run."""
        steps = set()
        for losses in logged_by_run(self.work_dir):
            assert losses.items() <= expected.items()
            steps |= losses.keys()
        assert steps == expected.keys()
        assert not list(self.work_dir.glob(UNFINISHED))
        assert len(list(self.work_dir.glob('*.pth'))) == 1


def kill_and_resume(folder, tool, kills, epochs, seed):
    """Kill a training so many times; see that it goes on each time.

    Returns:
        int: How many of them hit it while it saved.
    """
    chance = random.Random(seed)
    training = Training(folder, tool, epochs)
    whole = training.start('whole', resume=())
    training.finish(whole)
    expected, = logged_by_run(folder / 'whole')
    assert len(expected) == epochs * STEPS
    for number in range(kills):
        print(
            f'{number} kills, {training.saving} of them while a file was '
            f'written, {training.saved()} of {epochs} epochs',
            flush=True)
        process = training.start()
        if chance.random() < 0.75:
            training.kill_while_saving(process, chance.randrange(3),
                                       chance.choice([0, 0, 0.005, 0.02]))
        else:
            training.kill_after(process, chance.uniform(0.5, 8))
    training.finish(training.start())
    training.check(expected)
    return training.saving


@pytest.mark.slow
@pytest.mark.parametrize('tool, kills', [('train', 50), (HOSTS, 12)])
def test_many_kills(tool, kills, classifier):
    saving = kill_and_resume(classifier, tool, kills, 4 * kills, seed=0)
    print(f'{kills} kills, {saving} of them while a file was written')
    assert saving > kills / 4


def test_kills(classifier):
    assert kill_and_resume(classifier, 'train', 3, 12, seed=1)
