"""Run the tools in processes that start at once: the libraries are there."""
import gc
import importlib
import multiprocessing
import os
import runpy
import signal
import sys
from contextlib import suppress

import torch

import mmkdna  # noqa: F401
from tests.runs import ROOT, TOOLS

with suppress(ImportError):
    for part in ('apis', 'datasets', 'engine', 'evaluation', 'models'):
        importlib.import_module(f'mmpretrain.{part}')
# What the libraries have said would be in every process's log.
sys.stdout.flush()
# So that a collection in what is forked does not copy everything.
gc.freeze()

_PROCESSES = multiprocessing.get_context('forkserver')
_PROCESSES.set_forkserver_preload([__name__])


def start(tool, *args, cwd, log):
    """Start a tool, as the only thing that its process does.

    Args:
        tool (str | Path): Its file, or its path in tools, without ``.py``.
        *args (str | Path): Its arguments.
        cwd (Path): Folder to run it in.
        log (Path): File for what it writes to stdout and stderr.

    Returns:
        multiprocessing.Process: Its process.
    """
    if isinstance(tool, str):
        tool = TOOLS / f'{tool}.py'
    log.write_text('')
    # For the process that is forked, which does not look at sys.path.
    before = os.environ.get('PYTHONPATH')
    os.environ['PYTHONPATH'] = str(ROOT)
    try:
        process = _PROCESSES.Process(
            target=_run, args=(str(tool), list(map(str, args)), cwd, log))
        process.start()
    finally:
        del os.environ['PYTHONPATH']
        if before is not None:
            os.environ['PYTHONPATH'] = before
    return process


def _run(path, args, cwd, log):
    os.setsid()
    file = os.open(log, os.O_WRONLY | os.O_APPEND)
    for stream in (1, 2):
        os.dup2(file, stream)
    os.chdir(cwd)
    torch.set_num_threads(1)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    sys.argv = [path, *args]
    runpy.run_path(path, run_name='__main__')
