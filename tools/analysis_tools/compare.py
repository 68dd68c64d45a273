"""Train experiments that differ in their convolutions, and compare them.

Usage: python tools/analysis_tools/compare.py TASK [TASK ...] --seeds 0 1 2

A task is a folder of configs/comparison, an experiment a config in it. Each
experiment is trained with each seed that has no result yet; whatever was
stopped, also inside a training, goes on where it was stopped when the command
is given again. A run leaves one JSON file; then the table and the picture of
each task are written beside. With --latency the models of a task are timed in
turns, when nothing is trained any more.
"""
import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from statistics import mean

import torch

import mmkdna  # noqa: F401
from mmkdna.checkpoints.writing import written_whole
from mmkdna.comparison import (BASELINE, DEVICES, TASKS, Run, Trainings,
                               config_hash, draw_comparison, find_experiments,
                               find_missing, find_tasks, folder_name,
                               measure_latency, read_latency, read_records,
                               summarize, summary_table)
from mmkdna.launch.command import command
from mmkdna.launch.errors import CommandError

# The file of a task's latencies, beside its runs.
LATENCY = 'latency.json'


def get_parser() -> argparse.ArgumentParser:
    """The arguments of compare.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument('tasks', nargs='+', metavar='TASK')
    parser.add_argument('--seeds', nargs='+', type=int, default=[0, 1, 2])
    parser.add_argument(
        '--experiments',
        nargs='+',
        metavar='NAME',
        help='default: all of a task')
    parser.add_argument(
        '--configs',
        type=Path,
        default=TASKS,
        help='folder of the tasks; default: configs/comparison')
    parser.add_argument(
        '--device',
        choices=DEVICES,
        default='cpu',
        help='with cuda, the sizes for it that a task has, and folders TASK-'
        'cuda; default: cpu')
    parser.add_argument(
        '--jobs', type=int, default=1, help='trainings at a time')
    parser.add_argument(
        '--threads',
        type=int,
        default=1,
        help='of torch on the CPU, for each training and for --latency')
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
    parser.add_argument(
        '--latency',
        action='store_true',
        help='afterwards time all models of each task, in their deployed form '
        'on one image, on a machine that does nothing else')
    return parser


def list_runs(args: argparse.Namespace) -> list[Run]:
    """List the runs that are asked for, all experiments with a seed first."""
    if args.jobs < 1 or args.threads < 1:
        raise CommandError(f'--jobs {args.jobs} and --threads {args.threads} '
                           'are given, 1 or more is expected')
    if not args.configs.is_dir():
        raise CommandError(f'--configs {args.configs} is given, but there is '
                           'no such folder')
    for flag, given in (('TASK', args.tasks), ('--seeds', args.seeds),
                        ('--experiments', args.experiments or ())):
        if len(set(given)) < len(given):
            raise CommandError(f'{flag} {" ".join(map(str, given))} is given, '
                               'each once is expected')
    tasks = find_tasks(args.configs)
    runs = []
    for task in args.tasks:
        if task not in tasks:
            raise CommandError(f'{task} is given as task, one of '
                               f'{", ".join(tasks)} is expected')
        experiments = find_experiments(task, args.configs)
        if args.latency and BASELINE not in experiments:
            raise CommandError(f'--latency is given, but {task} has no '
                               f'{BASELINE}.py, which the others are timed '
                               'against: expected one in '
                               f'{args.configs / task}')
        for name in args.experiments or experiments:
            if name not in experiments:
                raise CommandError(
                    f'{name} is given as experiment of {task}, one of '
                    f'{", ".join(experiments)} is expected')
            runs += [
                Run(task, name, seed, experiments[name], args.device)
                for seed in args.seeds
            ]
    return sorted(runs, key=lambda run: args.seeds.index(run.seed))


def do_runs(args: argparse.Namespace, runs: list[Run]) -> list[str]:
    """Do runs, so many at a time, and say how long the rest takes."""
    trainings = Trainings(args.out, args.work_dir, args.threads)
    failures, seconds = [], []

    def do_timed(run: Run) -> tuple[str, float]:
        start = time.time()
        return trainings.do(run), time.time() - start

    # What is under way is ended before the pool waits for it.
    with ThreadPoolExecutor(args.jobs) as pool, trainings:
        futures = {pool.submit(do_timed, run): run for run in runs}
        for number, future in enumerate(as_completed(futures), 1):
            failure, took = future.result()
            seconds.append(took)
            if failure:
                failures.append(failure)
            left = mean(seconds) * (len(runs) - number) / args.jobs
            print(
                f'{number} of {len(runs)} runs, '
                f'{futures[future].folder} {futures[future].name}; about '
                f'{left / 60:.0f} min left',
                flush=True)
    return failures


def write(path: Path, text: str) -> None:
    """Write a text as a whole or not at all."""
    with written_whole(path, 'w') as file:
        file.write(text + '\n')


def measure(args: argparse.Namespace, task: str) -> None:
    """Time all models of a task, and write the file of it."""
    measured = measure_latency(
        find_experiments(task, args.configs), args.device, args.threads)
    write(args.out / folder_name(task, args.device) / LATENCY,
          json.dumps(measured, indent=1))


def report(args: argparse.Namespace, task: str) -> None:
    """Write and print what a task's runs say."""
    experiments = find_experiments(task, args.configs)
    hashes = {
        name: config_hash(path, args.device)
        for name, path in experiments.items()
    }
    name = folder_name(task, args.device)
    folder = args.out / name
    records = []
    for record in read_records(folder):
        if record['hash'] == hashes.get(record['experiment']):
            records.append(record)
        else:
            print(f'{name} {record["experiment"]}_seed-{record["seed"]} is '
                  'left out: it is of a config that is not there any more')
    latencies, others = read_latency(folder / LATENCY, hashes)
    if others:
        print(f'The latency of {name} {", ".join(others)} is left out: it is '
              'of a config that is not there any more; --latency times again')
    summaries = summarize(records, list(experiments), args.seeds)
    table = summary_table(summaries, latencies=latencies)
    print(f'\n{name}\n\n{table}')
    write(folder / 'README.md',
          f'# {name}, seeds {", ".join(map(str, args.seeds))}\n\n{table}')
    write(folder / 'summary.json',
          json.dumps([asdict(s) for s in summaries], indent=1))
    draw_comparison(summaries, folder / 'comparison.svg', name, latencies)


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Train what is missing, and report."""
    runs = list_runs(args)
    if (args.device == 'cuda' and not torch.cuda.is_available()
            and not (args.no_training and not args.latency)):
        raise CommandError('--device cuda is given, but torch finds no such '
                           'device here: --device cpu is expected')
    failures = []
    if not args.no_training:
        missing = find_missing(args.out, runs)
        print(f'{len(runs) - len(missing)} of {len(runs)} runs are there')
        failures = do_runs(args, missing)
    for task in args.tasks:
        if args.latency:
            measure(args, task)
        report(args, task)
    if failures:
        raise CommandError('; '.join(failures))


if __name__ == '__main__':
    main()
