"""Run the host libraries' own tests with KernelDNA in place of a convolution.

Usage: python tests/hosts/run.py [HOST ...] [--checkout HOST=FOLDER ...]

The tests of backbones, necks, heads and segmentors that a host library has
published, against the one that is installed here: once as they are, once with
KernelDNA for every convolution that the library builds (see ``plugin``), and
once more with other options. Only what passes as it is
counts. Prints a table, and what fails with KernelDNA; ends with exit status 1
if there is no reason in ``REASONS`` for it.

The tests are fetched by pip into the user's cache, and are nowhere in this
project. On PyPI only MMSegmentation has them; those of other libraries run
from a checkout of theirs, which is only read.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
import xml.etree.ElementTree
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, Optional

from mmkdna.analysis.tables import markdown_table
from mmkdna.launch.command import command
from mmkdna.launch.errors import CommandError

PLUGIN = Path(__file__).resolve().parent / 'plugin'
CACHE = Path(os.environ.get('XDG_CACHE_HOME', Path.home() / '.cache'))
# The release on PyPI that has the tests, and which of their folders matter.
HOSTS = dict(
    mmdet=(None, ('backbones', 'necks', 'dense_heads', 'roi_heads')),
    mmpretrain=(None, ('backbones', 'necks', 'heads')),
    mmseg=('mmsegmentation==1.2.2', ('backbones', 'necks', 'heads',
                                     'segmentors')))
# Options of conv_cfg with which the tests run. The second has far more
# convolutions share, and no norm of ours beside the host's.
RUNS = {
    'KernelDNA': {},
    'KernelDNA, 1x1 as well, gates without norm':
    dict(kernel_sizes=[1, 3, 5, 7], norm_cfg=None, rd_ratio=0.5)
}
# Of pytest: all that can be run is, and nothing is left behind.
REPORTING = ('-q', '--tb=line', '-p', 'no:cacheprovider',
             '--continue-on-collection-errors')
# Why a test fails with KernelDNA that passes without, by its name.
REASONS = {
    'test_backbones::test_pidnet::test_pidnet_backbone':
    'PIDNet fills the weight of every nn.Conv2d itself, and a child has none; '
    'it takes no conv_cfg, so only this test gives it children',
    'test_backbones::test_resnet::test_resnet_backbone':
    'every norm of a ResNet with norm_cfg=GN is expected to be a group norm; '
    'the batch norms of the gates are set by norm_cfg in conv_cfg, as in the '
    'other run, which passes'
}


class Outcome(NamedTuple):
    """What became of one test."""
    # 'passed', 'failed' or 'skipped'
    result: str
    # Why, in one line
    message: str
    # The convolutions that became children in it; None without the plugin
    children: Optional[int]


def fetch(release):
    """Fetch the sdist of a release, unless the cache has it.

    Args:
        release (str): What pip is to download, ``name==version``.

    Returns:
        Path: The sdist.
    """
    folder = CACHE / 'mmkdna' / 'host_tests'
    archive = folder / f'{release.replace("==", "-")}.tar.gz'
    if not archive.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run([
            sys.executable, '-m', 'pip', 'download', '--no-deps',
            '--no-build-isolation', '--no-binary', ':all:', '--dest',
            str(folder), release
        ], stdout=sys.stderr)  # yapf: disable
        if done.returncode:
            raise CommandError(
                f'{release} cannot be fetched by pip: see above')
    return archive


def lay_out(host, source, folder):
    """Lay out the tests of a library as in its repository, without itself.

    Beside its source they would find that, and not what is installed.

    Args:
        host (str): The library.
        source (Path): Its sdist, or a checkout of its repository.
        folder (Path): An empty folder.
    """
    if source.is_dir():
        shutil.copytree(source / 'tests', folder / 'tests')
    else:
        with tarfile.open(source) as archive:
            for member in archive:
                # Without the folder that an sdist has around everything.
                member.name = member.name.partition('/')[2]
                if member.name.startswith('tests/'):
                    archive.extract(member, folder, filter='data')
    # Those that come with what is installed.
    installed, = find_spec(host).submodule_search_locations
    (folder / 'configs').symlink_to(Path(installed) / '.mim' / 'configs')


def run_tests(host, folder, options):
    """Run the tests of a library in a process of their own.

    Args:
        host (str): The library.
        folder (Path): Where they lie, see :func:`lay_out`.
        options (dict | None): Of the ``conv_cfg`` that takes the place of
            None; None leaves it at that.

    Returns:
        dict[str, Outcome]: What became of each, by 'folder::file::name'.
    """
    parts = [
        f'tests/test_models/test_{part}' for part in HOSTS[host][1]
        if (folder / f'tests/test_models/test_{part}').is_dir()
    ]
    arguments = ['-p', 'made_up_weights']
    if options is not None:
        arguments += [
            '-p', 'kernel_dna_by_default', f'--host={host}',
            f'--options={json.dumps(options)}'
        ]
    path = [str(PLUGIN), *filter(None, [os.environ.get('PYTHONPATH')])]
    report = folder / 'report.xml'
    done = subprocess.run([
        sys.executable, '-m', 'pytest', *REPORTING, f'--junitxml={report}',
        *arguments, *parts
    ],
                          cwd=folder,
                          env=dict(
                              os.environ, PYTHONPATH=os.pathsep.join(path)),
                          stdout=sys.stderr)
    if not report.is_file():
        raise CommandError(
            f'pytest ended with exit status {done.returncode}: see above')
    outcomes = read_report(report)
    report.unlink()
    return outcomes


def read_report(path):
    """Read pytest's report; see :func:`run_tests`."""
    outcomes = {}
    for case in xml.etree.ElementTree.parse(path).iter('testcase'):
        # 'tests.test_models.test_necks.test_fpn' or '...test_fpn.TestFPN'; of
        # a file that cannot be imported, its name is in 'name' alone.
        parts = [*filter(None, case.get('classname').split('.'))]
        parts += case.get('name').split('.') if not parts else [
            case.get('name')
        ]
        name = '::'.join(parts[2:])
        result, message = 'passed', ''
        for kind in ('failure', 'error', 'skipped'):
            found = case.find(kind)
            if found is not None:
                result = 'skipped' if kind == 'skipped' else 'failed'
                message = found.get('message').splitlines()[0]
        counted = case.find('properties/property[@name="children"]')
        outcomes[name] = Outcome(
            result, message,
            None if counted is None else int(counted.get('value')))
    return outcomes


def compare(stock, ours):
    """Count what passes with KernelDNA of what passes without.

    Args:
        stock (dict[str, Outcome]): Without it.
        ours (dict[str, dict[str, Outcome]]): With it, by the name of the run.

    Returns:
        tuple[dict[str, list], list]: Of every folder, the cells of its row:
        tests, skipped, passed without, and for each run how many of these
        passed, and in how many of those something shared; and what failed,
        as run, test and message.
    """
    rows, failed = {}, []
    for folder in dict.fromkeys(name.partition('::')[0] for name in stock):
        inside = {
            name: outcome
            for name, outcome in stock.items()
            if name.partition('::')[0] == folder
        }
        results = [outcome.result for outcome in inside.values()]
        row = [len(results), results.count('skipped'), results.count('passed')]
        for run, outcomes in ours.items():
            passed = []
            for name in inside:
                if inside[name].result != 'passed':
                    continue
                outcome = outcomes.get(
                    name, Outcome('failed', 'the test did not run', 0))
                if outcome.result == 'passed':
                    passed.append(outcome)
                else:
                    failed.append((run, name, outcome.message))
            row += [len(passed), sum(bool(o.children) for o in passed)]
        rows[folder.replace('test_', '')] = row
    return rows, failed


def find_tests(host, checkouts):
    """Find the tests of a host library.

    Args:
        host (str): The library.
        checkouts (dict[str, str]): Folders of checkouts by library.

    Returns:
        Path | str: The sdist or checkout that has them, or why there is none.
    """
    if find_spec(host) is None:
        return 'it is not installed'
    release = HOSTS[host][0]
    if host in checkouts:
        checkout = Path(checkouts[host])
        if not (checkout / 'tests' / 'test_models').is_dir():
            raise CommandError(
                f'--checkout {host}={checkout} is given, but there is no '
                'folder tests/test_models in it: a checkout of the library\'s '
                'repository is expected')
        return checkout
    if release is None:
        return (f'no release on PyPI has its tests of models; --checkout '
                f'{host}=FOLDER takes them from a checkout')
    return fetch(release)


def get_parser() -> argparse.ArgumentParser:
    """The arguments of run.py."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        'hosts', nargs='*', metavar='HOST', help='one of ' + ', '.join(HOSTS))
    parser.add_argument(
        '--checkout',
        action='append',
        default=[],
        metavar='HOST=FOLDER',
        help='checkout of a host library\'s repository, to take its tests '
        'from')
    return parser


@command(get_parser)
def main(args: argparse.Namespace) -> None:
    """Run, and print."""
    checkouts = dict(given.partition('=')[::2] for given in args.checkout)
    for host in (*args.hosts, *checkouts):
        if host not in HOSTS:
            raise CommandError(f'{host} is given as host, one of '
                               f'{", ".join(HOSTS)} is expected')
    rows, failed = [], []
    for host in args.hosts or HOSTS:
        source = find_tests(host, checkouts)
        if isinstance(source, str):
            print(f'{host} is skipped: {source}')
            continue
        with tempfile.TemporaryDirectory() as folder:
            lay_out(host, source, Path(folder))
            stock = run_tests(host, Path(folder), None)
            ours = {
                run: run_tests(host, Path(folder), options)
                for run, options in RUNS.items()
            }
        of_host, failed_of_host = compare(stock, ours)
        rows += [[host, part, *cells] for part, cells in of_host.items()]
        failed += failed_of_host
    head = ['host', 'part', 'tests', 'skipped', 'pass as they are']
    for run in RUNS:
        head += [f'pass with {run}', 'where something shares']
    print(markdown_table(head, rows))
    unexplained = 0
    for run, name, message in failed:
        reason = REASONS.get(name)
        unexplained += reason is None
        print(f'{run}: {name}: {reason or message}')
    if unexplained:
        raise CommandError(f'{unexplained} fail for no known reason')


if __name__ == '__main__':
    main()
