"""Train experiments that differ in their convolutions, and compare them.

Usage: python tools/analysis_tools/compare.py TASK [TASK ...] --seeds 0 1 2

A task is a folder of configs/comparison, an experiment a config in it. Each
experiment is trained with each seed that has no result yet; whatever was
stopped, also a single training, goes on where it was stopped. A run leaves one
JSON file; then the table and the picture of each task are written beside.
"""
import argparse
import json
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

from mmengine.utils import ProgressBar  # noqa: F401

import mmkdna  # noqa: F401
from mmkdna.analysis.comparison import (Run, draw_comparison,
                                        find_experiments, find_missing,
                                        find_tasks, make_record, read_records,
                                        summarize, summary_table, train)


def parse_args():
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'tasks',
        nargs='+',
        metavar='TASK',
        choices=find_tasks(),
        help=f'of {", ".join(find_tasks())}')
    parser.add_argument('--seeds', nargs='+', type=int, default=(0, 1, 2))
    parser.add_argument(
        '--experiments',
        nargs='+',
        metavar='NAME',
        help='default: all of a task')
    parser.add_argument('--device', choices=('cpu', 'cuda'), default='cpu')
    parser.add_argument(
        '--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument(
        '--threads',
        type=int,
        default=1,
        help='of torch, for each training on the CPU')
    parser.add_argument(
        '--out',
        type=Path,
        default=Path('docs/results'),
        help='folder of the results')
    parser.add_argument(
        '--work-dir',
        type=Path,
        default=Path('work_dirs/comparison'),
        help='folder of the trainings')
    parser.add_argument(
        '--no-training',
        action='store_true',
        help='write tables and pictures of what there is')
    args = parser.parse_args()
    if args.jobs < 1 or args.threads < 1:
        parser.error('--jobs and --threads have to be positive')
    return args
