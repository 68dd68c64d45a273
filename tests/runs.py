"""Run the tools as a user does, in a process of their own, and read logs."""
import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from mmkdna.hosts import EXTRAS, missing_host

ROOT = Path(__file__).resolve().parents[1]
CONFIGS = ROOT / 'configs'
TOOLS = ROOT / 'tools'


def real_data(folder):
    """A folder of real pictures, or else the test is skipped.

    Args:
        folder (str): Name of a folder in that which the environment variable
            MMKDNA_DATA names.

    Returns:
        Path: The folder.
    """
    root = os.environ.get('MMKDNA_DATA')
    if not root:
        pytest.skip(f'MMKDNA_DATA is not set: {folder} lies in the folder '
                    'that it names')
    return Path(root).resolve() / folder


def free_port():
    """A port of this machine that nothing listens on."""
    with socket.socket() as found:
        found.bind(('127.0.0.1', 0))
        return found.getsockname()[1]


def skip_if_missing(said):
    """Skip a test that ended with the word that a host is not installed.

    Args:
        said (str): How it ended.
    """
    for host in EXTRAS:
        absent = missing_host(host)
        if absent and absent in said:
            pytest.skip(f'{host} is not installed')


def run(*command, cwd, fails=False):
    """Run a command.

    Args:
        *command (str | Path): The command and its arguments.
        cwd (Path): Folder to run it in.
        fails (bool): Whether it is expected to fail. Defaults to False.

    Returns:
        str: What it wrote to stdout and stderr.
    """
    env = dict(os.environ)
    env['PYTHONPATH'] = os.pathsep.join(
        [str(ROOT), *filter(None, [env.get('PYTHONPATH')])])
    env['PATH'] = os.pathsep.join(
        [str(Path(sys.executable).parent), env['PATH']])
    # For dist_train.sh and dist_test.sh, beside whatever else runs here.
    env['PORT'] = str(free_port())
    # A pytest that it starts is no worker of this one.
    env.pop('PYTEST_XDIST_WORKER', None)
    # With more threads, sums are formed in another order every time.
    env['OMP_NUM_THREADS'] = '1'
    if env.get('MMKDNA_DATA'):
        env['MMKDNA_DATA'] = str(Path(env['MMKDNA_DATA']).resolve())
    done = subprocess.run([str(part) for part in command],
                          cwd=cwd,
                          env=env,
                          text=True,
                          stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT)
    if done.returncode and not fails:
        skip_if_missing(done.stdout)
    assert (done.returncode != 0) == fails, done.stdout
    return done.stdout


def run_tool(name, *args, **kwargs):
    """Run ``tools/{name}.py``; see :func:`run`."""
    return run(sys.executable, TOOLS / f'{name}.py', *args, **kwargs)


def load_tool(name):
    """A tool as a module.

    Args:
        name (str): Its path in tools, without ``.py``.

    Returns:
        ModuleType: The module.
    """
    spec = importlib.util.spec_from_file_location(
        name.replace('/', '.'), TOOLS / f'{name}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def logged(work_dir, name='loss'):
    """What a run has logged.

    Args:
        work_dir (Path): Its work_dir, with one run in it.
        name (str): Name of the value. Defaults to 'loss'.

    Returns:
        dict[int, float]: The value by step.
    """
    values, = logged_by_run(work_dir, name)
    return values


def logged_by_run(work_dir, name='loss'):
    """What each run in a work_dir has logged, in the order of their start.

    Args:
        work_dir (Path): The work_dir.
        name (str): Name of the value. Defaults to 'loss'.

    Returns:
        list[dict[int, float]]: The value by step.
    """
    runs = []
    for file in sorted(Path(work_dir).glob('*/vis_data/scalars.json')):
        # The last line of a run that was killed may be cut.
        lines = [
            json.loads(line) for line in file.read_text().splitlines()
            if line.endswith('}')
        ]
        runs.append(
            {line['step']: line[name]
             for line in lines if name in line})
    return runs


def pictures(folder):
    """The pictures in a folder, as arrays by file name."""
    import cv2
    files = sorted(Path(folder).iterdir())
    return {file.name: cv2.imread(str(file)) for file in files}


def hear_interrupts():
    """What a shell starts in the background ignores them; before a program."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
