"""Trainings that are under way, and end with what has started them."""
from __future__ import annotations
import fcntl
import json
import os
import signal
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from ..checkpoints.writing import written_whole
from ..launch.config import CONFIGS
from .record import make_record, missing_metric, newest_checkpoint
from .runs import Run, config_hash, gpu_options

TOOLS = Path(CONFIGS).parent / 'tools'


class Trainings:
    """Does runs, also several at a time; leaving the context ends them.

    Args:
        out (Path): Folder of all results.
        work_dir (Path): Folder of the trainings.
        threads (int): Threads of torch on the CPU, for each.
    """

    def __init__(self, out: Path, work_dir: Path, threads: int) -> None:
        self.out = out
        self.work_dir = work_dir
        self.threads = threads
        self._ended = False
        self._processes: set[subprocess.Popen[bytes]] = set()
        # Nothing is started while all are being ended.
        self._lock = threading.Lock()
        # Mmengine reads configs and builds models in one thread at a time.
        self._reading = threading.Lock()

    def __enter__(self) -> Trainings:
        return self

    def __exit__(self, *_: Any) -> None:
        with self._lock:
            self._ended = True
            for process in list(self._processes):
                # It may just have ended.
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGTERM)

    def do(self, run: Run) -> str:
        """Do a run, or go on with one that was stopped, and write its file.

        Args:
            run (Run): The run.

        Returns:
            str: Empty, or what went wrong.
        """
        # What another config has begun is not gone on with.
        with self._reading:
            digits = config_hash(run.config, run.device)
            work_dir = self.work_dir / run.folder / f'{run.name}_{digits}'
            command = train_command(run, work_dir)
        work_dir.mkdir(parents=True, exist_ok=True)
        log = work_dir / 'train.log'
        try:
            done = self._run(command, log, run.device)
            with self._reading:
                metric = missing_metric(run, work_dir)
            checkpoint = newest_checkpoint(work_dir)
            if not done.returncode and metric and checkpoint:
                # It was stopped between its last checkpoint and its metric.
                command = test_command(run, work_dir, checkpoint)
                done = self._run(
                    command, log,
                    run.device)._replace(peak_memory=done.peak_memory)
                with self._reading:
                    metric = missing_metric(run, work_dir)
        except BlockingIOError:
            return (f'{run.folder} {run.name}: a process that was started '
                    f'before still trains in {work_dir}: wait until it is '
                    'done, or end it, and give the command again')
        if self._ended:
            return ''
        if done.returncode:
            return _failure(run, f'with {done.returncode}', log)
        if metric:
            return _failure(run, f'without {metric}', log)
        if checkpoint is None:
            return _failure(run, 'without a checkpoint', log)
        with self._reading:
            record = make_record(run, work_dir, checkpoint, self.threads,
                                 done.peak_memory)
        path = self.out / run.folder / f'{run.name}.json'
        with written_whole(path, 'w') as file:
            file.write(json.dumps(record, indent=1) + '\n')
        return ''

    def _run(self, command: list[str], log_file: Path, device: str) -> Done:
        """Run a command, whose output goes to a file, until it ends.

        Raises:
            BlockingIOError: If a process still writes to that file.
        """
        env = dict(os.environ, OMP_NUM_THREADS=str(self.threads))
        if device == 'cpu':
            env['CUDA_VISIBLE_DEVICES'] = ''
        with open(log_file, 'ab') as log:
            # The process has the lock as long as it runs, even if this one
            # is killed.
            fcntl.flock(log, fcntl.LOCK_EX | fcntl.LOCK_NB)
            with self._lock:
                if self._ended:
                    return Done(-signal.SIGTERM, 0)
                process = subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, env=env)
                self._processes.add(process)
        _, status, usage = os.wait4(process.pid, 0)
        self._processes.remove(process)
        process.returncode = os.waitstatus_to_exitcode(status)
        # Linux counts in KiB, macOS in bytes.
        unit = 1 if sys.platform == 'darwin' else 1024
        return Done(process.returncode, usage.ru_maxrss * unit)


def _failure(run: Run, how: str, log: Path) -> str:
    """Say how a training ended that has no result."""
    lines = log.read_text(errors='replace').rstrip().splitlines()
    return (f'{run.folder} {run.name}: the training ended {how}; {log} ends '
            f'with: {lines[-1] if lines else ""}')


class Done(NamedTuple):
    """What a process leaves.

    Attributes:
        returncode (int): Its exit status; negative for a signal.
        peak_memory (int): Most memory it had, in bytes.
    """
    returncode: int
    peak_memory: int


def train_command(run: Run, work_dir: Path) -> list[str]:
    """Give the command of a run, the same at the start and later.

    Args:
        run (Run): The run.
        work_dir (Path): Its folder.

    Returns:
        list[str]: The command.
    """
    return _command(run, 'train.py', '--work-dir', str(work_dir), '--resume')


def test_command(run: Run, work_dir: Path, checkpoint: Path) -> list[str]:
    """Give the command that finds the metric of a checkpoint.

    Args:
        run (Run): The run.
        work_dir (Path): Its folder.
        checkpoint (Path): The file.

    Returns:
        list[str]: The command.
    """
    return _command(run, 'test.py', str(checkpoint), '--work-dir',
                    str(work_dir))


def _command(run: Run, tool: str, *arguments: str) -> list[str]:
    """A tool on a run's config, with its seed and the sizes of its device."""
    options = gpu_options(run.config) if run.device == 'cuda' else {}
    return [
        sys.executable,
        str(TOOLS / tool),
        str(run.config), *arguments, '--cfg-options',
        f'randomness.seed={run.seed}',
        *(f'{key}={value}' for key, value in options.items())
    ]
