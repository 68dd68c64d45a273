"""A task that takes seconds, and compare.py on it."""
import shutil
import subprocess
import sys

from tests.runs import TOOLS, hear_interrupts, run_tool

TOOL = 'analysis_tools/compare'


def make_task(classifier):
    """Make a task of two experiments.

    Args:
        classifier (Path): What the fixture of that name gives.

    Returns:
        Path: The same, with a folder of tasks.
    """
    folder = classifier / 'tasks' / 'tiny'
    folder.mkdir(parents=True)
    shutil.move(str(classifier / 'tiny.py'), str(folder / 'kdna.py'))
    (folder / 'plain.py').write_text(
        '_base_ = "./kdna.py"\n'
        'model = dict(backbone=dict(sharing_stages=()))\n')
    return classifier


def compare(folder, *args, **kwargs):
    """Run compare.py until it ends; see :func:`tests.runs.run`."""
    return run_tool(
        TOOL, 'tiny', '--configs', 'tasks', *args, cwd=folder, **kwargs)


def start(folder, *args):
    """Start compare.py in a process group of its own.

    Args:
        folder (Path): Folder to run it in.
        *args (str): Further arguments.

    Returns:
        subprocess.Popen: What it says is in its stdout.
    """
    return subprocess.Popen([
        sys.executable,
        str(TOOLS / f'{TOOL}.py'), 'tiny', '--configs', 'tasks', *args
    ],
                            cwd=folder,
                            text=True,
                            stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT,
                            start_new_session=True,
                            preexec_fn=hear_interrupts)
