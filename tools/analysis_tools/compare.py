"""Train experiments that differ in their convolutions, and compare them.

Usage: python tools/analysis_tools/compare.py TASK [TASK ...] --seeds 0 1 2

A task is a folder of configs/comparison, an experiment a config in it. Each
experiment is trained with each seed that has no result yet; whatever was
stopped, also inside a training, goes on where it was stopped when the command
is given again. A run leaves one JSON file; then the table and the picture of
each task are written beside.
"""
import argparse
import json
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

import mmkdna  # noqa: F401
from mmkdna.checkpoints.writing import written_whole
from mmkdna.comparison import (TASKS, Run, config_hash, draw_comparison,
                               find_experiments, find_missing, find_tasks,
                               make_record, read_records, summarize,
                               summary_table, train)
from mmkdna.launch.command import command
from mmkdna.launch.errors import CommandError


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
    return parser


def list_runs(args: argparse.Namespace) -> list[Run]:
    """List the runs that are asked for, all experiments with a seed first."""
    if args.jobs < 1 or args.threads < 1:
        raise CommandError(f'--jobs {args.jobs} and --threads {args.threads} '
                           'are given, 1 or more is expected')
    if not args.configs.is_dir():
        raise CommandError(f'--configs {args.configs} is given, but there is '
                           'no such folder')
    tasks = find_tasks(args.configs)
    runs = []
    for task in args.tasks:
        if task not in tasks:
            raise CommandError(f'{task} is given as task, one of '
                               f'{", ".join(tasks)} is expected')
        experiments = find_experiments(task, args.configs)
        for name in args.experiments or experiments:
            if name not in experiments:
                raise CommandError(
                    f'{name} is given as experiment of {task}, one of '
                    f'{", ".join(experiments)} is expected')
            runs += [
                Run(task, name, seed, experiments[name]) for seed in args.seeds
            ]
    return sorted(runs, key=lambda run: args.seeds.index(run.seed))


@dataclass
class Trainings:
    """The trainings that are under way, which an interrupt ends."""
    args: argparse.Namespace
    started: list = field(default_factory=list)
    ended: threading.Event = field(default_factory=threading.Event)

    def do(self, run: Run) -> str:
        """Do a run and write its file.

        Returns:
            str: Empty, or what went wrong.
        """
        if self.ended.is_set():
            return ''
        args = self.args
        # What another config has begun is not gone on with.
        work_dir = (
            args.work_dir / run.task / f'{run.name}_{config_hash(run.config)}')
        trained = train(run, work_dir, args.device, args.threads, self.started)
        if trained.returncode:
            if self.ended.is_set():
                return ''
            lines = (work_dir / 'train.log').read_text(
                errors='replace').rstrip().splitlines()
            return (f'{run.task} {run.name}: the training ended with '
                    f'{trained.returncode}; {work_dir / "train.log"} ends '
                    f'with: {lines[-1] if lines else ""}')
        record = make_record(run, work_dir, args.device, args.threads,
                             trained.peak_memory)
        path = args.out / run.task / f'{run.name}.json'
        with written_whole(path, 'w') as file:
            file.write(json.dumps(record, indent=1) + '\n')
        return ''

    def end(self) -> None:
        """End what has been started, and start nothing more."""
        self.ended.set()
        for process in self.started:
            if process.returncode is None:
                process.send_signal(signal.SIGTERM)


def do_runs(args: argparse.Namespace, runs: list[Run]) -> list[str]:
    """Do runs, so many at a time, and say how long the rest takes."""
    trainings, failures, start = Trainings(args), [], time.time()
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with ThreadPoolExecutor(args.jobs) as pool:
        futures = {pool.submit(trainings.do, run): run for run in runs}
        try:
            for number, future in enumerate(as_completed(futures), 1):
                failure = future.result()
                if failure:
                    failures.append(failure)
                left = (time.time() - start) / number * (len(runs) - number)
                print(
                    f'{number} of {len(runs)} runs, '
                    f'{futures[future].task} {futures[future].name}; about '
                    f'{left / 60:.0f} min left',
                    flush=True)
        except KeyboardInterrupt:
            trainings.end()
            raise CommandError(
                'stopped: give the same command again to go on') from None
    return failures


def report(args: argparse.Namespace, task: str) -> None:
    """Write and print what a task's runs say."""
    experiments = find_experiments(task, args.configs)
    hashes = {name: config_hash(path) for name, path in experiments.items()}
    records = []
    for record in read_records(args.out, task):
        if record['hash'] == hashes.get(record['experiment']):
            records.append(record)
        else:
            print(f'{task} {record["experiment"]}_seed-{record["seed"]} is '
                  'left out: it is of a config that is not there any more')
    summaries = summarize(records, list(experiments), args.seeds)
    table = summary_table(summaries)
    print(f'\n{task}\n\n{table}')
    folder = args.out / task
    folder.mkdir(parents=True, exist_ok=True)
    (folder / 'README.md').write_text(
        f'# {task}, seeds {", ".join(map(str, args.seeds))}\n\n{table}\n')
    (folder / 'summary.json').write_text(
        json.dumps([s._asdict() for s in summaries], indent=1) + '\n')
    draw_comparison(summaries, folder / 'comparison.svg', task)


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Train what is missing, and report."""
    runs = list_runs(args)
    failures = []
    if not args.no_training:
        missing = find_missing(args.out, runs)
        print(f'{len(runs) - len(missing)} of {len(runs)} runs are there')
        failures = do_runs(args, missing)
    for task in args.tasks:
        report(args, task)
    if failures:
        raise CommandError('; '.join(failures))


if __name__ == '__main__':
    main()
