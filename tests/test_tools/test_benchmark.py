"""benchmark.py, as a user runs it."""
import json
from functools import partial

import pytest
import torch

from mmkdna.analysis.machine import processor
from mmkdna.analysis.variants import FORMS, TRAINABLE
from tests.runs import load_tool, run_tool
from tests.test_deploy import CONFIG

TOOL = 'analysis_tools/benchmark'
QUICK = '--size 64 64 --seconds 0.001'.split()


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / 'tiny.py').write_text(CONFIG)
    return tmp_path / 'tiny.py'


def table_of(out):
    """The cells of the table that was printed, without its head."""
    lines = out.splitlines()
    start = lines.index(
        '| config | mode | batch | variant | images/s | ms | ratio | least | '
        'greatest | peak MB | ratio | for backward MB | ratio |')
    return [
        line.strip('| ').split(' | ') for line in lines[start + 2:]
        if line.startswith('|')
    ]


def test_a_table_and_every_round(config, tmp_path):
    out = run_tool(
        TOOL,
        config,
        *QUICK,
        *'--conv-cfg type=ODConv --conv-cfg type=ODConv num_experts=4'.split(),
        *'--batch 1 2 --rounds 3 --modes eval train'.split(),
        *'--json new/out.json --plot new/out.svg'.split(),
        cwd=tmp_path)
    rivals = ['ODConv', 'ODConv num_experts=4']
    # All of them in eval mode, what is trained in train mode, two batches.
    table = table_of(out)
    expected = [['tiny', mode, batch, name]
                for mode, forms in (('eval', FORMS), ('train', TRAINABLE))
                for batch in '12' for name in [*forms, *rivals]]
    assert [row[:4] for row in table] == expected
    assert out.splitlines()[-1].startswith(
        f'torch {torch.__version__}, device cpu, processor {processor()}, '
        'threads 1, size [64, 64]')
    written = json.loads((tmp_path / 'new' / 'out.json').read_text())
    assert written['machine']['torch'] == torch.__version__
    assert written['machine']['processor'] == processor()
    assert written['machine']['size'] == [64, 64]
    assert written['machine']['dtype'] == 'float32'
    assert len(written['rows']) == len(table)
    for row, cells in zip(written['rows'], table):
        assert [row['config'], row['mode'],
                str(row['batch']), row['variant']] == cells[:4]
        assert len(row['rounds']) == 3 and min(row['rounds']) > 0
        assert cells[6] == '~' * row['uncertain'] + (
            f'{row["ratio"]["median"]:.3f}')
        assert row['peak_bytes'] > 0
        assert (row['backward_bytes'] is None) == (row['mode'] == 'eval')
        if row['variant'] == 'plain':
            assert row['ratio'] == dict(min=1, median=1, max=1)
            assert row['peak_ratio'] == 1
    last = {row['variant']: row for row in written['rows'][-4:]}
    assert (last['plain']['backward_bytes'] < last['trained']['backward_bytes']
            < last['ODConv']['backward_bytes'] <
            last['ODConv num_experts=4']['backward_bytes'])
    assert (tmp_path / 'new' / 'out.svg').stat().st_size > 1000


def test_how_models_are_run(config, tmp_path):
    args = '--forms trained --batch 2 --rounds 1'.split()
    out = run_tool(
        TOOL,
        config,
        *QUICK,
        *args,
        *'--dtype bfloat16 --channels-last --threads 2'.split(),
        cwd=tmp_path)
    assert len(table_of(out)) == 1
    for part in ('dtype bfloat16', 'channels_last True', 'threads 2',
                 'whole False'):
        assert part in out.splitlines()[-1]
    out = run_tool(TOOL, config, *QUICK, *args, '--whole', cwd=tmp_path)
    assert len(table_of(out)) == 1 and 'whole True' in out.splitlines()[-1]


def test_compiled_beside_not(config, monkeypatch, capsys):
    # As it is, but for the code that is written in the end.
    monkeypatch.setattr(torch, 'compile',
                        partial(torch.compile, backend='eager'))
    monkeypatch.setattr(torch._dynamo.config, 'cache_size_limit', 1)
    monkeypatch.setattr('sys.argv', [
        TOOL,
        str(config), *QUICK,
        *'--forms trained --batch 1 2 --rounds 1 --compile'.split()
    ])
    load_tool(TOOL).main()
    assert [row[2:4] for row in table_of(capsys.readouterr().out)
            ] == [[batch, name] for batch in '12'
                  for name in ('trained', 'trained, compiled')]


def test_options_may_be_nested():
    args = load_tool(TOOL).get_parser().parse_args(
        'a.py --conv-cfg type=KernelDNA norm_cfg.type=GN '
        'norm_cfg.num_groups=2 kernel_sizes=1,3 --conv-cfg type=SEConv'.split(
        ))
    assert args.conv_cfg == [
        dict(
            type='KernelDNA',
            norm_cfg=dict(type='GN', num_groups=2),
            kernel_sizes=[1, 3]),
        dict(type='SEConv')
    ]


@pytest.mark.parametrize('args, parts', [
    ('--rounds 0', ['--rounds 0', 'positive']),
    ('--size 64 -1', ['[64, -1]', 'positive']),
    ('--threads 0', ['--threads 0', '1 or more']),
    ('--modes train --forms deployed fused',
     ['\'deployed\', \'fused\'', '--modes train', '\'trained\'']),
    ('--cfg-options model.backbone.depth=19 --forms plain',
     ['plain form of the model of', 'tiny.py', 'depth=19']),
    ('--whole --modes eval train', ['--whole', '--modes train', 'eval mode']),
    ('--whole --compile', ['--whole', '--compile', 'not compiled']),
    ('--device none', ['--device none', 'no such device']),
    ('--device meta', ['--device meta', 'cpu or cuda']),
    ('--dtype float16', ['--dtype float16', 'bfloat16 on a CPU']),
    ('--plot a.txt', ['--plot a.txt', '.svg']),
    ('--json .', ['. is given to write to', 'folder']),
    ('--conv-cfg ODConv', ['--conv-cfg', 'type=TYPE', 'ODConv']),
    ('--conv-cfg num_experts=4', ['--conv-cfg', 'num_experts=4', 'type=TYPE']),
    ('--conv-cfg type=OddConv', ['OddConv', 'registered']),
    ('--conv-cfg type=ODConv grouped=True', ['ODConv', 'grouped', 'tiny.py']),
    ('--conv-cfg type=ODConv widths=4', ['ODConv widths=4', 'widths is']),
    ('--size 1 1 --modes train --batch 1 --forms plain',
     ['plain of tiny cannot be run in train mode', 'more than 1 value']),
])
def test_what_cannot_be_timed_is_refused(args, parts, config, refuse):
    message = refuse(TOOL, str(config), *args.split())
    for part in parts:
        assert part in message


def test_a_missing_config_is_refused(config, refuse):
    assert 'none.py is given as config' in refuse(TOOL, 'none.py')


def test_the_config_is_not_written_over(config, refuse):
    message = refuse(TOOL, 'tiny.py', '--json', './tiny.py')
    assert 'would replace tiny.py' in message
