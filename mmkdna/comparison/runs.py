"""Trainings of a comparison: what there is, what is missing, and one of them.

A task is a folder of ``configs/comparison``; each config in it is an
experiment. A training of one experiment with one seed is a run, of which a
file remains. A run that was stopped goes on where it was stopped.
"""
from __future__ import annotations
import hashlib
import json
import os
import os.path as osp
import platform
import subprocess
import sys
from pathlib import Path
from statistics import mean
from typing import Any, NamedTuple, Sequence

import torch
from mmengine.config import Config

from ..analysis.cost import image_shape, model_cost
from ..checkpoints.files import load_file
from ..launch.config import CONFIGS
from ..launch.model import init_model
from ..version import __version__

# Where the tasks are that come with the package.
TASKS = Path(CONFIGS) / 'comparison'
TRAIN = Path(CONFIGS).parent / 'tools' / 'train.py'
# What a host library calls the metric that decides.
METRICS = dict(mmdet='coco/bbox_mAP', mmseg='mIoU', mmpretrain='accuracy/top1')
PACKAGES = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')


class Run(NamedTuple):
    """One training.

    Attributes:
        task (str): Name of the task.
        experiment (str): Name of the experiment.
        seed (int): The seed.
        config (Path): Its config.
    """
    task: str
    experiment: str
    seed: int
    config: Path

    @property
    def name(self) -> str:
        """str: What its file and its folder are called."""
        return f'{self.experiment}_seed-{self.seed}'


def find_tasks(folder: Path = TASKS) -> list[str]:
    """List the tasks there are.

    Args:
        folder (Path): Folder of the tasks. Defaults to that of the package.

    Returns:
        list[str]: Names of the folders with experiments.
    """
    return sorted(path.name for path in folder.iterdir()
                  if path.is_dir() and not path.name.startswith('_'))


def find_experiments(task: str, folder: Path = TASKS) -> dict[str, Path]:
    """List the experiments of a task.

    Args:
        task (str): Name of the task.
        folder (Path): Folder of the tasks. Defaults to that of the package.

    Returns:
        dict[str, Path]: Config by name, 'plain' first.
    """
    paths = sorted((folder / task).glob('*.py'))
    paths.sort(key=lambda path: path.stem != 'plain')
    return {path.stem: path for path in paths}


def config_hash(config: Path) -> str:
    """Tell configs apart, bases included, wherever their data lie.

    Args:
        config (Path): The config.

    Returns:
        str: The first 8 digits of the sha256 of its text.
    """
    text = Config.fromfile(config).pretty_text
    data = os.environ.get('MMKDNA_DATA', 'data').rstrip('/')
    text = text.replace(data + '/', 'data/')
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_records(folder: Path, task: str) -> list[dict[str, Any]]:
    """Read the files of a task's runs.

    Args:
        folder (Path): The folder of all results.
        task (str): Name of the task.

    Returns:
        list[dict]: Those of the runs, by experiment and seed.
    """
    return [
        json.loads(path.read_text())
        for path in sorted((folder / task).glob('*_seed-*.json'))
    ]


def find_missing(folder: Path, runs: Sequence[Run]) -> list[Run]:
    """Find the runs that are to be done.

    Args:
        folder (Path): The folder of all results.
        runs (Sequence[Run]): Runs that are asked for.

    Returns:
        list[Run]: Those without a file, and those whose file is of another
        config than there is now.
    """
    missing = []
    hashes: dict[Path, str] = {}
    for run in runs:
        path = folder / run.task / f'{run.name}.json'
        if path.is_file():
            if run.config not in hashes:
                hashes[run.config] = config_hash(run.config)
            if json.loads(path.read_text())['hash'] == hashes[run.config]:
                continue
        missing.append(run)
    return missing


def train_command(run: Run, work_dir: Path) -> list[str]:
    """Give the command of a run, the same at the start and later.

    Args:
        run (Run): The run.
        work_dir (Path): Its folder.

    Returns:
        list[str]: The command.
    """
    return [
        sys.executable,
        str(TRAIN),
        str(run.config), '--work-dir',
        str(work_dir), '--resume', '--cfg-options',
        f'randomness.seed={run.seed}'
    ]


class Trained(NamedTuple):
    """What the process of a training leaves.

    Attributes:
        returncode (int): Its exit status; negative for a signal.
        peak_memory (int): Most memory it had, in bytes.
    """
    returncode: int
    peak_memory: int


def train(run: Run, work_dir: Path, device: str, threads: int,
          started: list[subprocess.Popen[bytes]]) -> Trained:
    """Train, or go on with a training that was stopped.

    Args:
        run (Run): The run.
        work_dir (Path): Its folder; ``train.log`` there gets what it says.
        device (str): 'cpu' or 'cuda'.
        threads (int): Threads of torch on the CPU.
        started (list): Gets the process, so that others can end it.

    Returns:
        Trained: How it ended.
    """
    work_dir.mkdir(parents=True, exist_ok=True)
    env = dict(os.environ, OMP_NUM_THREADS=str(threads))
    if device == 'cpu':
        env['CUDA_VISIBLE_DEVICES'] = ''
    with open(work_dir / 'train.log', 'ab') as log:
        process = subprocess.Popen(
            train_command(run, work_dir),
            stdout=log,
            stderr=subprocess.STDOUT,
            env=env)
        started.append(process)
        _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == 'darwin' else 1024
    return Trained(process.returncode, usage.ru_maxrss * unit)


def make_record(run: Run, work_dir: Path, device: str, threads: int,
                peak_memory: int) -> dict[str, Any]:
    """Describe a finished run.

    Args:
        run (Run): The run.
        work_dir (Path): Its folder.
        device (str): 'cpu' or 'cuda'.
        threads (int): Threads of torch on the CPU.
        peak_memory (int): Of the last process, in bytes.

    Returns:
        dict: What its file holds.
    """
    cfg = Config.fromfile(run.config)
    metric = METRICS[cfg.default_scope]
    lines = _scalars(work_dir)
    value = [line[metric] for line in lines if metric in line][-1]
    # Logged lines are of equally many iterations.
    steps = [line for line in lines if 'loss' in line and 'time' in line]
    number = max(line['step'] for line in steps)
    memory = [line['memory'] for line in steps if 'memory' in line]
    checkpoint = newest_checkpoint(work_dir)
    cost = model_cost(init_model(cfg), image_shape(cfg))
    return dict(
        task=run.task,
        experiment=run.experiment,
        seed=run.seed,
        config=f'{run.task}/{run.config.name}',
        hash=config_hash(run.config),
        metric=metric,
        value=value,
        metrics={
            key: number
            for line in lines if metric in line
            for key, number in line.items() if isinstance(number, float)
        },
        parameters=cost.parameters,
        flops=cost.flops,
        image=list(cost.shape),
        training_seconds=round(mean(s['time'] for s in steps) * number, 3),
        peak_memory=max(memory) * 2**20 if memory else peak_memory,
        weights_bytes=sum(
            value.numel() * value.element_size()
            for value in load_file(checkpoint)['state_dict'].values()),
        versions=dict(
            mmkdna=__version__,
            python=platform.python_version(),
            torch=torch.__version__,
            **{
                name: sys.modules[name].__version__
                for name in PACKAGES if name in sys.modules
            }),
        machine=dict(
            device=torch.cuda.get_device_name()
            if device == 'cuda' else device,
            processor=processor(),
            threads=threads))


def processor() -> str:
    """Name the processor of this machine.

    Returns:
        str: Its model where the system says it, or its architecture.
    """
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith('model name'):
                return line.partition(':')[2].strip()
    return platform.processor() or platform.machine()


def newest_checkpoint(work_dir: Path) -> Path:
    """Find the last checkpoint of a run.

    Args:
        work_dir (Path): Its folder.

    Returns:
        Path: The file that was written last.
    """
    return max(work_dir.glob('*.pth'), key=lambda path: osp.getmtime(path))


def _scalars(work_dir: Path) -> list[dict[str, Any]]:
    """What all processes of a run have logged, without what was done twice."""
    lines: dict[tuple[bool, int], dict[str, Any]] = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for text in file.read_text().splitlines():
            line = json.loads(text)
            lines['loss' in line, line['step']] = line
    return list(lines.values())
