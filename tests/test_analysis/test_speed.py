"""Models take turns, and ratios are formed within a round."""
import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmkdna.analysis.speed import (TimedModel, speed_table, summarize_speeds,
                                   time_in_turns)
from mmkdna.launch.model import init_model
from tests.test_deploy import CONFIG, DETECTOR, SEGMENTOR
from tests.utils import children_of

CONFIGS = dict(
    classifier=Config.fromstring(CONFIG, '.py'),
    detector=Config(dict(default_scope='mmdet', model=DETECTOR)),
    segmentor=Config(dict(default_scope='mmseg', model=SEGMENTOR)))


@pytest.mark.parametrize('name, shapes', [
    ('classifier', [(1, 3)]),
    ('detector', [(1, 8, size, size) for size in (16, 8, 4, 2, 1)]),
    ('segmentor', [(1, 3, 16, 16)]),
])
def test_to_where_a_model_is_timed(name, shapes):
    model = TimedModel(init_model(CONFIGS[name]), 'eval', 'cpu')
    outputs = model.forward(torch.randn(1, 3, 64, 64))
    if torch.is_tensor(outputs):
        outputs = (outputs, )
    assert [tuple(out.shape) for out in outputs] == shapes


class Watched(nn.Module):
    """A network whose head is a layer; it notes how it is run."""

    def __init__(self):
        super().__init__()
        self.head = nn.Conv2d(3, 2, 1)
        self.runs = []
        self.gradients = 0
        self.head.weight.register_hook(self.count)

    def count(self, grad):
        self.gradients += 1

    def forward(self, x, mode):
        self.runs.append((self.training, torch.is_grad_enabled(), mode))
        return self.head(x)


@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_a_mode_is_how_a_model_runs(mode):
    model = Watched()
    timed = TimedModel(model, mode, 'cpu')
    x = torch.randn(4, 3, 8, 8)
    timed.calibrate(x, 1e-9)
    assert timed.repeats == 1
    timed.repeats = 5
    assert timed.speed(x) > 0
    trains = mode == 'train'
    # Three to warm up.
    assert model.runs == [(trains, trains, 'tensor')] * 8
    assert model.gradients == 8 * trains
    assert not any(p.grad is not None and p.grad.any()
                   for p in model.parameters())


def test_ratios_are_formed_within_a_round():
    # The machine is half as fast in the second round.
    speeds = {
        ('a', 'plain'): [8., 4., 8.],
        ('a', 'fused'): [16., 8., 12.],
        ('b', 'plain'): [2., 1., 2.],
        ('b', 'fused'): [3., 1., 2.]
    }
    rows = summarize_speeds(speeds, 'eval', 4)
    assert [(row.config, row.form) for row in rows] == list(speeds)
    assert [row.images_per_second for row in rows] == [8, 12, 2, 2]
    assert [tuple(row.ratio.values()) for row in rows] == [(1, 1, 1),
                                                           (1.5, 2, 2),
                                                           (1, 1, 1),
                                                           (1, 1, 1.5)]
    assert speed_table(rows).splitlines()[3] == (
        '| a | eval | 4 | fused | 12.0 | 2.000 | 1.500 | 2.000 |')
    # One form only: configs are compared.
    del speeds['a', 'plain'], speeds['b', 'plain']
    rows = summarize_speeds(speeds, 'eval', 4)
    assert tuple(rows[1].ratio.values()) == (1 / 8, 1 / 6, 3 / 16)


def test_models_take_turns():
    order = []

    class Named:

        def __init__(self, name):
            self.name = name

        def calibrate(self, x, seconds):
            order.append(self.name.upper())

        def speed(self, x):
            order.append(self.name)
            return len(order)

    speeds = time_in_turns({name: Named(name) for name in 'abc'}, None, 3, 1)
    assert ''.join(order) == 'ABC' 'abc' 'cba' 'abc'
    assert speeds == dict(a=[4, 9, 10], b=[5, 8, 11], c=[6, 7, 12])


@pytest.mark.parametrize('kept', [True, False])
def test_kernels_are_kept_during_a_round(kept, monkeypatch):
    model = init_model(CONFIGS['classifier'])
    timed = TimedModel(model, 'eval', 'cpu', kept=kept)
    timed.repeats = 4
    children = list(children_of(model).values())
    calls = []
    for child in children:
        derive = child.adapter.derive
        monkeypatch.setattr(
            child.adapter,
            'derive',
            lambda w, f=derive: calls.append(1) or f(w))
    timed.speed(torch.randn(1, 3, 64, 64))
    assert len(calls) == len(children) * (1 if kept else 4)
    assert all(child._kept_kernel is None for child in children)
