"""What remains of a run: the metric, what the model costs, and where it
ran."""
from __future__ import annotations
import json
import os.path as osp
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch

from ..analysis.cost import image_shape, model_cost
from ..analysis.machine import machine
from ..checkpoints.files import load_file
from ..launch.model import init_model
from ..version import __version__
from .runs import Run, config_hash, read_experiment

# What a host library calls the metric that decides.
METRICS = dict(mmdet='coco/bbox_mAP', mmseg='mIoU', mmpretrain='accuracy/top1')
PACKAGES = ('mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')
# What is logged beside metrics.
TIMES = 'time', 'data_time'


def make_record(run: Run, work_dir: Path, checkpoint: Path, threads: int,
                peak_memory: int) -> dict[str, Any]:
    """Describe a finished run.

    Args:
        run (Run): The run.
        work_dir (Path): Its folder, whose logs have the metric.
        checkpoint (Path): Its last checkpoint.
        threads (int): Threads of torch on the CPU.
        peak_memory (int): Of the last process, in bytes.

    Returns:
        dict: What its file holds. 'training_seconds' is the median time of an
        iteration for all iterations; 'peak_memory' is on a CPU that of the
        process, with all that it imports.
    """
    cfg = read_experiment(run.config, run.device)
    metric = METRICS[cfg.default_scope]
    lines = _logged_lines(work_dir)
    value = [line[metric] for line in lines if metric in line][-1]
    # Logged lines are of equally many iterations.
    steps = [line for line in lines if 'loss' in line and 'time' in line]
    number = max(line['step'] for line in steps)
    memory = [line['memory'] for line in steps if 'memory' in line]
    cost = model_cost(init_model(cfg), image_shape(cfg))
    return dict(
        task=run.task,
        experiment=run.experiment,
        seed=run.seed,
        config=f'{run.task}/{run.config.name}',
        hash=config_hash(run.config, run.device),
        metric=metric,
        value=value,
        metrics={
            key: number
            for line in lines if metric in line
            for key, number in line.items()
            if isinstance(number, float) and key not in TIMES
        },
        parameters=cost.parameters,
        flops=cost.flops,
        image=list(cost.shape),
        training_seconds=round(median(s['time'] for s in steps) * number, 3),
        peak_memory=max(memory) * 2**20 if memory else peak_memory,
        weights_bytes=sum(
            value.numel() * value.element_size()
            for value in load_file(checkpoint)['state_dict'].values()),
        versions=versions(),
        machine=machine(run.device, threads))


def missing_metric(run: Run, work_dir: Path) -> str | None:
    """Find out whether a run has come to its metric.

    Args:
        run (Run): The run.
        work_dir (Path): Its folder.

    Returns:
        str | None: Name of the metric, if it has not.
    """
    metric = METRICS[read_experiment(run.config).default_scope]
    found = any(metric in line for line in _logged_lines(work_dir))
    return None if found else metric


def versions() -> dict[str, str]:
    """List the versions of what runs.

    Returns:
        dict[str, str]: By package, the host libraries only where they are
        imported, and the 'commit' of a checkout.
    """
    return dict(
        mmkdna=__version__,
        **_commit(),
        python=platform.python_version(),
        torch=torch.__version__,
        **{
            name: sys.modules[name].__version__
            for name in PACKAGES if name in sys.modules
        })


def _commit() -> dict[str, str]:
    """The commit of this code, if it is that of a checkout."""
    root = Path(__file__).parents[2]
    if not (root / '.git').exists() or not shutil.which('git'):
        return {}
    done = subprocess.run([
        'git', 'describe', '--always', '--dirty', '--abbrev=40', '--exclude=*'
    ],
                          cwd=root,
                          capture_output=True,
                          text=True,
                          check=False)
    return dict(commit=done.stdout.strip()) if done.returncode == 0 else {}


def newest_checkpoint(work_dir: Path) -> Path | None:
    """Find the last checkpoint of a run.

    Args:
        work_dir (Path): Its folder.

    Returns:
        Path | None: The file that was written last, if there is one.
    """
    return max(work_dir.glob('*.pth'), key=osp.getmtime, default=None)


def _logged_lines(work_dir: Path) -> list[dict[str, Any]]:
    """What all processes of a run have logged, without what was done twice."""
    lines: dict[tuple[bool, int], dict[str, Any]] = {}
    for file in sorted(work_dir.glob('*/vis_data/scalars.json')):
        for text in file.read_text().splitlines():
            line = json.loads(text)
            lines['loss' in line, line['step']] = line
    # tools/test.py leaves its metrics beside.
    tests = sorted(work_dir.glob('*/*.json'))
    return [*lines.values(), *(json.loads(t.read_text()) for t in tests)]
