"""Runs of a comparison: what there is, and what is missing.

A task is a folder of ``configs/comparison``; each config in it is an
experiment. A training of one experiment with one seed is a run, of which a
file remains. Runs on a GPU have folders of their own, so that they never stand
beside those of a CPU.
"""
from __future__ import annotations
import hashlib
import json
import os
from pathlib import Path
from typing import Any, NamedTuple, Sequence

from mmengine.config import Config

from ..launch.config import CONFIGS

# Where the tasks are that come with the package.
TASKS = Path(CONFIGS) / 'comparison'
DEVICES = ('cpu', 'cuda')


class Run(NamedTuple):
    """One training.

    Attributes:
        task (str): Name of the task.
        experiment (str): Name of the experiment.
        seed (int): The seed.
        config (Path): Its config.
        device (str): One of :data:`DEVICES`. Defaults to 'cpu'.
    """
    task: str
    experiment: str
    seed: int
    config: Path
    device: str = 'cpu'

    @property
    def name(self) -> str:
        """str: What its file and its folder are called."""
        return f'{self.experiment}_seed-{self.seed}'

    @property
    def folder(self) -> str:
        """str: What the folder is called in which its file is."""
        return folder_name(self.task, self.device)


def folder_name(task: str, device: str) -> str:
    """Name the folder of a task's runs on a device.

    Args:
        task (str): Name of the task.
        device (str): One of :data:`DEVICES`.

    Returns:
        str: The task itself for the CPU.
    """
    return task if device == 'cpu' else f'{task}-{device}'


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


def gpu_options(config: Path) -> dict[str, Any]:
    """Read what an experiment has different on a GPU.

    Args:
        config (Path): The config. It may have a dict ``cuda``, also from its
            bases.

    Returns:
        dict[str, Any]: What ``cuda`` has: values by key, as --cfg-options
        takes them. Empty without it.
    """
    return dict(Config.fromfile(config).get('cuda') or {})


def read_experiment(config: Path, device: str = 'cpu') -> Config:
    """Read the config of an experiment as it is trained on a device.

    Args:
        config (Path): The config.
        device (str): One of :data:`DEVICES`. Defaults to 'cpu'.

    Returns:
        Config: With the :func:`gpu_options` on 'cuda', and without ``cuda``.
    """
    cfg = Config.fromfile(config)
    cfg.pop('cuda', None)
    if device == 'cuda':
        cfg.merge_from_dict(gpu_options(config))
    return cfg


def config_hash(config: Path, device: str = 'cpu') -> str:
    """Tell configs apart, bases included, wherever their data lie.

    Args:
        config (Path): The config.
        device (str): One of :data:`DEVICES`. What is different on a GPU does
            not count on the CPU. Defaults to 'cpu'.

    Returns:
        str: The first 8 digits of the sha256 of what it says.
    """
    # Without line breaks, whose places would depend on a path's length.
    text = json.dumps(
        read_experiment(config, device).to_dict(),
        sort_keys=True,
        ensure_ascii=False,
        default=str)
    data = os.environ.get('MMKDNA_DATA', 'data').rstrip('/')
    text = text.replace(data + '/', 'data/')
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def read_records(folder: Path) -> list[dict[str, Any]]:
    """Read the files of runs.

    Args:
        folder (Path): That of a task's results on a device.

    Returns:
        list[dict]: Those of the runs, by experiment and seed.
    """
    return [
        json.loads(path.read_text())
        for path in sorted(folder.glob('*_seed-*.json'))
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
    hashes: dict[tuple[Path, str], str] = {}
    for run in runs:
        path = folder / run.folder / f'{run.name}.json'
        if path.is_file():
            key = run.config, run.device
            if key not in hashes:
                hashes[key] = config_hash(*key)
            if json.loads(path.read_text())['hash'] == hashes[key]:
                continue
        missing.append(run)
    return missing
