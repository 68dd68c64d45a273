"""benchmark.py times the forms it says it times."""
import json
import sys

import pytest
import torch
from mmengine.config import Config
from torch import nn

from tests.runs import load_tool
from tests.test_deploy import CONFIG, DETECTOR
from tests.utils import children_of, kernel_dna


@pytest.fixture
def tool():
    return load_tool('analysis_tools/benchmark')


@pytest.fixture
def config(tmp_path):
    path = tmp_path / 'tiny.py'
    path.write_text(CONFIG)
    return path


def test_each_form_is_what_its_name_says(tool, config):
    cfg = Config.fromfile(config)
    models = {form: tool.build(cfg, form) for form in tool.FORMS}
    for form, model in models.items():
        assert not model.training
        assert bool(children_of(model)) == (form == 'trained')
        assert bool(kernel_dna(model)) == (not form.startswith('plain'))
        norms = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        assert norms == (not form.endswith('fused'))
        blocks = [len(getattr(model.backbone, f'layer{i}')) for i in (3, 4)]
        assert blocks == [3, 3]
    convs = [
        sum(isinstance(m, nn.Conv2d) for m in model.modules())
        for model in models.values()
    ]
    assert len(set(convs)) == 1


def test_the_plain_form_of_a_conv_cfg(tool):
    cfg = Config(dict(default_scope='mmdet', model=DETECTOR))
    plain = tool.build(cfg, 'plain')
    assert not kernel_dna(plain) and children_of(tool.build(cfg, 'trained'))
    x = torch.randn(1, 3, 64, 64)
    candidate = tool.Candidate(plain, 'eval', 'cpu')
    assert len(candidate.forward(x)) == 5


def run(tool, monkeypatch, *args):
    monkeypatch.setattr('sys.argv', ['benchmark', *map(str, args)])
    tool.main()


def test_a_table_and_every_round(tool, config, tmp_path, monkeypatch, capsys):
    run(tool, monkeypatch, config, '--batch', 1, 2, '--size', 64, 64,
        '--rounds', 3, '--seconds', 0.001, '--modes', 'eval', 'train',
        '--json', tmp_path / 'out.json')
    lines = capsys.readouterr().out.splitlines()
    start = lines.index('| config | mode | batch | form | images/s | ratio | '
                        'least | greatest |')
    # Five forms in eval mode, two in train mode, two batches.
    table = [line.strip('| ').split(' | ') for line in lines[start + 2:-1]]
    assert [row[:4] for row in table
            ] == [['tiny', mode, batch, form]
                  for mode, forms in (('eval', tool.FORMS), ('train',
                                                             tool.TRAINABLE))
                  for batch in '12' for form in forms]
    written = json.loads((tmp_path / 'out.json').read_text())
    assert written['machine']['torch'] == torch.__version__
    assert len(written['rows']) == len(table)
    for row, cells in zip(written['rows'], table):
        assert len(row['rounds']) == 3 and min(row['rounds']) > 0
        assert cells[5] == f'{row["ratio"]["median"]:.3f}'
        if row['form'] == 'plain':
            assert row['ratio'] == dict(min=1, median=1, max=1)


def test_ratios_are_formed_within_a_round(tool):
    # The machine is half as fast in the second round.
    speeds = {
        ('a', 'plain'): [8., 4., 8.],
        ('a', 'fused'): [16., 8., 12.],
        ('b', 'plain'): [2., 1., 2.],
        ('b', 'fused'): [3., 1., 2.]
    }
    ratios = [row['ratio'] for row in tool.summarize(speeds, batch=1)]
    assert [tuple(ratio.values()) for ratio in ratios] == [(1, 1, 1),
                                                           (1.5, 2, 2),
                                                           (1, 1, 1),
                                                           (1, 1, 1.5)]
    # One form only: configs are compared.
    del speeds['a', 'plain'], speeds['b', 'plain']
    ratios = [row['ratio'] for row in tool.summarize(speeds)]
    assert tuple(ratios[1].values()) == (1 / 8, 1 / 6, 3 / 16)


def test_forms_take_turns(tool):
    order = []

    class Fake:

        def __init__(self, name):
            self.name = name

        def calibrate(self, x, seconds):
            pass

        def speed(self, x):
            order.append(self.name)
            return 1.

    tool.compare({name: Fake(name) for name in 'abc'}, None, 3, 1)
    assert ''.join(order) == 'abc' 'cba' 'abc'


def test_nothing_to_time_is_refused(tool, config, monkeypatch, capsys):
    with pytest.raises(SystemExit):
        run(tool, monkeypatch, config, '--rounds', 0)
    assert 'have to be positive' in capsys.readouterr().err
    assert sys.exc_info()[0] is None
