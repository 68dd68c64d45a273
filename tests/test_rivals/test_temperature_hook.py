"""The temperature over a run, in the trained and in the averaged model."""
import sys
from uuid import uuid4

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import nn

from mmkdna import link_kernels
from mmkdna.rivals import CONV_TYPES, TemperatureHook
from tests.runs import free_port, run
from tests.test_pretrained.hook_runs import Pictures, averaged, equal, saved

EMAS = [
    None,
    dict(type='EMAHook'),
    dict(type='EMAHook', update_buffers=True),
    dict(type='EMAHook', update_buffers=True, begin_iter=4),
]
HOOK = dict(type='TemperatureHook', end=2)


class Net(BaseModel):
    """Two convolutions of each type, a norm and a linear layer."""

    def __init__(self, *types, **options):
        super().__init__()
        self.convs = nn.Sequential(
            nn.Conv2d(3, 8, 3, stride=4), *[
                CONV_TYPES[name](8, 8, 3, padding=1, **options)
                for name in types for _ in range(2)
            ], nn.BatchNorm2d(8))
        link_kernels(self.convs)
        self.fc = nn.Linear(8, 2)
        self.seen = []

    def forward(self, inputs, label=None, mode='tensor'):
        self.seen.append(progress_of(self))
        scores = self.fc(self.convs(inputs).mean((2, 3)))
        if mode != 'loss':
            return scores
        return dict(loss=nn.functional.cross_entropy(scores, label))


def progress_of(model):
    return [
        float(m.progress) for m in model.modules() if hasattr(m, 'progress')
    ]


def make_runner(work_dir,
                *hooks,
                types=('DyConv', 'ODConv'),
                seed=0,
                train_cfg=dict(by_epoch=True, max_epochs=3),
                **arguments):
    """Two iterations of four pictures an epoch, each saved."""
    torch.manual_seed(seed)
    return Runner(
        Net(*types),
        str(work_dir),
        train_dataloader=dict(
            batch_size=4,
            num_workers=0,
            dataset=Pictures(),
            sampler=dict(type='DefaultSampler', shuffle=True),
            collate_fn=dict(type='default_collate')),
        train_cfg=dict(train_cfg),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.1, momentum=0.9)),
        default_hooks=dict(
            logger=dict(type='LoggerHook', interval=1),
            checkpoint=dict(type='CheckpointHook', by_epoch=False,
                            interval=1)),
        default_scope='mmengine',
        custom_hooks=[dict(hook) for hook in hooks if hook],
        randomness=dict(seed=seed),
        experiment_name=uuid4().hex,
        **arguments)


@pytest.mark.parametrize('hook, train_cfg, expected', [
    (HOOK, dict(by_epoch=True, max_epochs=3), [0, 1 / 4, 2 / 4, 3 / 4, 1, 1]),
    (dict(HOOK, end=3, by_epoch=False), dict(
        by_epoch=True, max_epochs=3), [0, 1 / 3, 2 / 3, 1, 1, 1]),
    (dict(HOOK, end=4, by_epoch=False), dict(
        by_epoch=False, max_iters=5), [0, 1 / 4, 2 / 4, 3 / 4, 1]),
])
def test_the_way_of_a_run(hook, train_cfg, expected, tmp_path):
    runner = make_runner(tmp_path, hook, train_cfg=train_cfg)
    model = runner.train()
    assert model.seen == [pytest.approx([value] * 4) for value in expected]
    # What training has reached is what whoever loads the weights gets.
    state_dict = saved(tmp_path, 3)['state_dict']
    other = Net('DyConv', 'ODConv')
    other.load_state_dict(state_dict)
    assert progress_of(other) == pytest.approx([expected[2]] * 4)


def test_temperatures():
    conv = Net('DyConv').convs[1]
    for progress, expected in ((0, 30), (0.5, 15.5), (1, 1)):
        conv.set_progress(progress)
        assert float(conv.temperature(30)) == expected
        assert float(conv.temperature(1)) == 1


@pytest.mark.parametrize('ema', EMAS[1:])
def test_an_averaged_model_has_the_same_temperature(ema, tmp_path):
    runner = make_runner(tmp_path, HOOK, ema)
    runner.train()
    for number in range(1, 7):
        file = saved(tmp_path, number)
        for name in ('convs.1.progress', 'convs.3.progress'):
            assert float(file['state_dict'][name]) == min((number - 1) / 4, 1)
            assert torch.equal(file['ema_state_dict'][f'module.{name}'],
                               file['state_dict'][name])
    assert progress_of(averaged(runner)) == [1] * 4


@pytest.mark.parametrize('ema', EMAS)
@pytest.mark.parametrize('stop', [2, 4])
def test_resuming_is_exact(ema, stop, tmp_path):
    hook = dict(HOOK, end=5, by_epoch=False)
    train_cfg = dict(by_epoch=False, max_iters=6)
    whole = make_runner(tmp_path / 'whole', hook, ema, train_cfg=train_cfg)
    whole.train()
    again = make_runner(
        tmp_path / 'again',
        hook,
        ema,
        train_cfg=train_cfg,
        load_from=str(tmp_path / 'whole' / f'iter_{stop}.pth'),
        resume=True)
    again.train()
    assert again.model.seen == whole.model.seen[stop:]
    first, second = (saved(tmp_path / name, 6) for name in ('whole', 'again'))
    assert equal(first['state_dict'], second['state_dict'])
    if ema:
        assert equal(first['ema_state_dict'], second['ema_state_dict'])
    losses = [
        runner.message_hub.get_scalar('train/loss')._log_history[stop:]
        for runner in (whole, again)
    ]
    assert len(losses[0]) == 6 - stop and (losses[0] == losses[1]).all()


@pytest.mark.parametrize('arguments', [
    dict(end=0),
    dict(end=-1),
    dict(end=2.5),
    dict(end=None),
    dict(end=True),
    dict(by_epoch='no'),
    dict(by_epoch=0),
    dict(by_epoch=None),
])
def test_senseless_arguments(arguments):
    (name, value), = arguments.items()
    with pytest.raises(
            ValueError,
            match=f'TemperatureHook: {name}={value!r} .* is expected'):
        TemperatureHook(**arguments)


@pytest.mark.parametrize('hook, train_cfg, told', [
    (dict(HOOK, end=3), dict(by_epoch=True, max_epochs=3), '3 epochs'),
    (dict(HOOK, end=6, by_epoch=False), dict(by_epoch=True,
                                             max_epochs=3), '6 iterations'),
    (HOOK, dict(by_epoch=False, max_iters=9), 'by_epoch=False'),
])
def test_training_that_stops_on_the_way(hook, train_cfg, told, tmp_path):
    runner = make_runner(tmp_path, hook, train_cfg=train_cfg)
    with pytest.raises(ValueError, match=f'end={hook["end"]} .*{told}'):
        runner.train()


def test_nothing_to_sharpen(tmp_path):
    runner = make_runner(tmp_path, HOOK, types=['CondConv', 'SEConv'])
    with pytest.raises(ValueError, match='TemperatureHook finds no conv'):
        runner.train()


def test_without_the_hook_the_start_stays(tmp_path):
    model = make_runner(tmp_path).train()
    assert model.seen == [[0] * 4] * 6


# What each of two processes runs: one step an epoch, four pictures each.
ON_A_DEVICE = """
import torch
from mmkdna.launch.distributed import start_gloo
from tests.test_rivals import test_temperature_hook as test
start_gloo()
run = test.make_runner(
    'run', test.HOOK, test.EMAS[2], launcher='pytorch',
    cfg=dict(model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', broadcast_buffers=False,
        device_ids=None)))
run.train()
rank = torch.distributed.get_rank()
torch.save(
    dict(
        seen=run.model.module.seen,
        averaged=test.progress_of(test.averaged(run)),
        weights=run.model.module.state_dict()), f'{rank}.pth')
"""


def test_two_devices(tmp_path):
    script = tmp_path / 'train.py'
    script.write_text(ON_A_DEVICE)
    run(sys.executable,
        '-m',
        'torch.distributed.run',
        '--nproc_per_node=2',
        f'--master_port={free_port()}',
        script,
        cwd=tmp_path)
    one, two = (
        torch.load(tmp_path / f'{rank}.pth', weights_only=False)
        for rank in range(2))
    assert one['seen'] == two['seen'] == [[0] * 4, [0.5] * 4, [1] * 4]
    assert one['averaged'] == two['averaged'] == [1] * 4
    for name, value in one['weights'].items():
        # Each device has statistics of its own.
        if 'running' not in name:
            assert torch.equal(value, two['weights'][name]), name
