"""The benchmarks of make bench run, and what they store is nobody's."""
import json
import platform
import sys

import pytest

from tests.runs import ROOT, run

pytest.importorskip('mmdet')


def test_every_benchmark_runs_once():
    out = run(
        sys.executable,
        '-m',
        'pytest',
        '-q',
        'benchmarks',
        '--benchmark-disable',
        cwd=ROOT)
    assert ' passed' in out and 'failed' not in out


def test_what_is_stored(tmp_path):
    command = [
        sys.executable, '-m', 'pytest', 'benchmarks', '-k', 'derive',
        f'--benchmark-storage=file://{tmp_path}', '--benchmark-compare',
        '--benchmark-max-time=0.01', '--benchmark-save=stored'
    ]
    run(*command, cwd=ROOT)
    file, = tmp_path.rglob('*.json')
    text = file.read_text()
    stored = json.loads(text)
    assert [case['name'] for case in stored['benchmarks']] == ['test_derive']
    assert stored['machine_info']['torch']
    assert stored['commit_info'] == dict(id='', dirty=False)
    for named in (f'"{platform.node()}"', str(ROOT)):
        assert named not in text
    # And the next run is compared with it.
    assert 'test_derive (0001_stored)' in run(*command, cwd=ROOT)
