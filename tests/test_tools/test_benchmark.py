"""benchmark.py, as a user runs it."""
import json

import pytest
import torch

from mmkdna.analysis.forms import FORMS, TRAINABLE
from tests.runs import run_tool
from tests.test_deploy import CONFIG

TOOL = 'analysis_tools/benchmark'


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tiny.py').write_text(CONFIG)
    return tmp_path / 'tiny.py'


def test_a_table_and_every_round(config, tmp_path):
    out = run_tool(
        TOOL,
        config,
        *'--batch 1 2 --size 64 64 --rounds 3 --seconds 0.001'.split(),
        *'--modes eval train --json new/out.json'.split(),
        cwd=tmp_path)
    lines = out.splitlines()
    start = lines.index('| config | mode | batch | form | images/s | ratio | '
                        'least | greatest |')
    # Six forms in eval mode, two in train mode, two batches.
    table = [line.strip('| ').split(' | ') for line in lines[start + 2:-1]]
    expected = [['tiny', mode, batch, form]
                for mode, forms in (('eval', FORMS), ('train', TRAINABLE))
                for batch in '12' for form in forms]
    assert [row[:4] for row in table] == expected
    assert lines[-1].startswith(f'torch {torch.__version__}, threads 1')
    written = json.loads((tmp_path / 'new' / 'out.json').read_text())
    assert written['machine']['torch'] == torch.__version__
    assert written['machine']['size'] == [64, 64]
    assert len(written['rows']) == len(table)
    for row, cells in zip(written['rows'], table):
        assert [row['config'], row['mode'],
                str(row['batch']), row['form']] == cells[:4]
        assert len(row['rounds']) == 3 and min(row['rounds']) > 0
        assert cells[5] == f'{row["ratio"]["median"]:.3f}'
        if row['form'] == 'plain':
            assert row['ratio'] == dict(min=1, median=1, max=1)


@pytest.mark.parametrize('args, parts', [
    ('--rounds 0', ['--rounds 0', 'positive']),
    ('--size 64 -1', ['[64, -1]', 'positive']),
    ('--modes train --forms deployed fused',
     ['\'deployed\', \'fused\'', '--modes train', '\'trained\'']),
    ('--cfg-options model.backbone.depth=19 --forms plain',
     ['plain form of the model of', 'tiny.py', 'depth=19']),
])
def test_what_cannot_be_timed_is_refused(args, parts, config, refuse):
    message = refuse(TOOL, str(config), *args.split())
    for part in parts:
        assert part in message


def test_a_missing_config_is_refused(config, refuse):
    assert 'none.py is given as config' in refuse(TOOL, 'none.py')
