"""How models are run to be timed."""
import copy
from functools import partial

import pytest
import torch
from mmengine.config import Config
from torch import nn

from mmkdna.analysis.conv_types import replace_convs
from mmkdna.analysis.speed import Setting, TimedModel, time_in_turns
from mmkdna.launch.model import init_model
from tests.test_deploy import CONFIG, DETECTOR, SEGMENTOR
from tests.utils import children_of, compiles

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
    model = TimedModel(init_model(CONFIGS[name]))
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
    timed = TimedModel(model, Setting(mode))
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


def test_models_take_turns():
    order = []

    class Named:

        def __init__(self, name):
            self.name = name

        def speed(self, x):
            order.append(self.name)
            return len(order)

    speeds = time_in_turns({name: Named(name) for name in 'abc'}, None, 3)
    assert ''.join(order) == 'abc' 'cba' 'abc'
    assert speeds == dict(a=[1, 6, 7], b=[2, 5, 8], c=[3, 4, 9])


@pytest.mark.parametrize('kept', [True, False])
def test_kernels_are_kept_during_a_round(kept, monkeypatch):
    model = init_model(CONFIGS['classifier'])
    timed = TimedModel(model, kept=kept)
    timed.repeats = 4
    children = list(children_of(model).values())
    calls = []
    for child in children:
        factors = child.adapter.factors
        monkeypatch.setattr(
            child.adapter, 'factors', lambda f=factors: calls.append(1) or f())
    timed.speed(torch.randn(1, 3, 64, 64))
    assert len(calls) == len(children) * (1 if kept else 4)
    assert all(child._kept_kernel is None for child in children)


@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_a_type_is_that_of_an_autocast(mode):
    setting = Setting(mode, dtype=torch.bfloat16)
    timed = TimedModel(init_model(CONFIGS['classifier']), setting)
    seen = []
    conv = timed.model.backbone.conv1
    conv.register_forward_hook(lambda *args: seen.append(args[2].dtype))
    timed.speed(setting.images(2, 64, 64))
    assert seen == [torch.bfloat16]
    assert conv.weight.dtype == torch.float32


@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_channels_last(mode):
    last = dict(memory_format=torch.channels_last)
    model = init_model(CONFIGS['classifier'])
    seen = []
    model.backbone.register_forward_hook(lambda *args: seen.append(args[2][0]))
    setting = Setting(mode, channels_last=True)
    x = setting.images(2, 64, 64)
    assert x.is_contiguous(**last) and not x.is_contiguous()
    TimedModel(model, setting).speed(x)
    assert seen[0].is_contiguous(**last) and not seen[0].is_contiguous()
    weight = model.backbone.conv1.weight
    assert weight.is_contiguous(**last) and not weight.is_contiguous()


def test_channels_last_beside_kernels_of_five_dimensions():
    model = init_model(CONFIGS['classifier'])
    replace_convs(model, dict(type='ODConv'))
    setting = Setting(channels_last=True)
    timed = TimedModel(model, setting)
    assert timed.speed(setting.images(2, 64, 64)) > 0


@pytest.mark.parametrize('name', CONFIGS)
def test_a_whole_model_predicts(name):
    cfg = copy.deepcopy(CONFIGS[name])
    if name != 'classifier':
        host = cfg.default_scope
        kind = dict(mmdet='DetDataPreprocessor', mmseg='SegDataPreProcessor')
        cfg.model.data_preprocessor = dict(
            type=f'{host}.{kind[host]}', mean=[127.5] * 3, std=[60.] * 3)
        cfg.model.test_cfg = dict(
            mmdet=dict(
                nms_pre=10,
                min_bbox_size=0,
                max_per_img=5,
                score_thr=0,
                nms=dict(type='nms', iou_threshold=0.5)),
            mmseg=dict(mode='whole'))[host]
    model = init_model(cfg)
    setting = Setting(whole=True)
    x = setting.images(2, 50, 64)
    assert x.dtype == torch.uint8 and x.shape == (2, 3, 50, 64)
    one, other = TimedModel(model, setting).forward(x)
    if name == 'classifier':
        assert one.pred_score.shape == other.pred_score.shape == (3, )
    elif name == 'segmentor':
        assert one.pred_sem_seg.data.shape == (1, 50, 64)
    else:
        assert one.pred_instances.bboxes.shape == (5, 4)
        assert one.pad_shape == (50, 64)


@compiles
@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('mode', ['eval', 'train'])
def test_compiled(name, mode, monkeypatch):
    graphs = []

    def count(graph, example):
        graphs.append(graph)
        return graph

    # As it is, but for the code that is written in the end.
    monkeypatch.setattr(torch, 'compile',
                        partial(torch.compile, backend=count))
    torch._dynamo.reset()
    model = init_model(CONFIGS[name])
    timed = TimedModel(model, Setting(mode), compiled=True)
    twin = TimedModel(copy.deepcopy(model), Setting(mode))
    x = torch.randn(2, 3, 64, 64)
    answers = []
    for one in (timed, twin):
        one.model.train(mode == 'train')
        torch.manual_seed(0)
        answers.append(one.forward(x))
    torch.testing.assert_close(*answers)
    assert len(graphs) == 1


def test_memory_of_a_step():
    """A training keeps what an evaluation lets go of."""
    model = init_model(CONFIGS['classifier'])
    peaks = []
    for batch in (1, 2):
        for mode in ('eval', 'train'):
            setting = Setting(mode)
            timed = TimedModel(model, setting)
            timed.model.train(mode == 'train')
            peak, backward = timed.memory(setting.images(batch, 64, 64))
            peaks.append(peak)
            assert (backward is None) == (mode == 'eval')
            if backward is not None:
                assert 0 < backward < peak
    one, one_trained, two, two_trained = peaks
    assert one < one_trained and one_trained < two_trained
    assert 1.8 < two / one < 2.2
    assert all(p.grad is None for p in model.parameters())
