"""A network reconstructed on pictures before the first iteration."""
import json
import sys

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import MODELS
from torch import nn
from torch.utils.data import DataLoader, Subset

from mmkdna.reconstruction import (ReconstructionHook, reconstruction_hook,
                                   whole_model)
from tests.runs import run as run_command
from tests.test_pretrained.hook_runs import (Net, Pictures, averaged, equal,
                                             plain_weights, runner, saved)
from tests.utils import relative_error

HOOK = dict(type='ReconstructionHook', num_batches=4, steps=3)
EMAS = [None, dict(type='EMAHook'), dict(type='EMAHook', update_buffers=True)]


@pytest.fixture
def weights(tmp_path):
    file = tmp_path / 'plain.pth'
    plain_weights(file)
    return file


@pytest.fixture
def calls(monkeypatch):
    """The batches of every fit, and the state after it."""
    calls = []
    reconstruct = reconstruction_hook.reconstruct

    def note(model, batches, *args, **kwargs):
        report = reconstruct(model, batches, *args, **kwargs)
        # They are gone afterwards.
        calls.append((list(batches), {
            k: v.clone()
            for k, v in model.state_dict().items()
        }, report))
        return report

    monkeypatch.setattr(reconstruction_hook, 'reconstruct', note)
    return calls


def hooks_of(ema):
    return [HOOK] + ([dict(ema)] if ema else [])


@pytest.mark.parametrize('ema', EMAS)
def test_before_the_first_iteration_only(ema, weights, tmp_path, calls):
    whole = runner(tmp_path / 'whole', weights, *hooks_of(ema))
    whole.train()
    (batches, fitted, report), = calls
    assert [batch.shape for batch in batches] == [(4, 3, 32, 32)] * 4
    # Where there is a GPU, the model is there.
    assert {batch.device.type for batch in batches} == {'cpu'}
    assert [part.name for part in report.parts] == \
        ['backbone.layer3', 'backbone.layer4']
    file = tmp_path / 'whole' / 'reconstruction.json'
    assert json.loads(file.read_text())['error_after'] == report.error_after
    assert not (tmp_path / 'whole' / 'reconstruction.pth').exists()
    assert not any('own_' in key for key in fitted)
    # From the first iteration on nothing of the own kernels is there.
    assert whole.model.shares == [[]] * 6
    first = saved(tmp_path / 'whole', 1)
    for part in ('state_dict', *(['ema_state_dict'] if ema else [])):
        assert not any('own_' in key for key in first[part])
    if ema:
        # After one iteration EMAHook has copied, not averaged.
        key = 'backbone.layer3.1.conv3.weight'
        assert torch.equal(first['ema_state_dict'][f'module.{key}'],
                           first['state_dict'][key])
        assert not any('own_' in key for key in averaged(whole).state_dict())
    again = runner(
        tmp_path / 'again',
        weights,
        *hooks_of(ema),
        load_from=str(tmp_path / 'whole' / 'iter_2.pth'),
        resume=True)
    again.train()
    assert len(calls) == 1
    for part in ('state_dict', *(['ema_state_dict'] if ema else [])):
        assert equal(
            saved(tmp_path / 'whole', 6)[part],
            saved(tmp_path / 'again', 6)[part])


def test_it_brings_the_network_nearer_to_the_plain_one(weights, tmp_path,
                                                       calls):
    run = runner(tmp_path / 'run', weights, dict(HOOK, steps=20), iters=1)
    run.train()
    _, fitted, _ = calls[0]
    theirs, ours, sudden = Net(sharing_stages=()), Net(), Net()
    plain = torch.load(weights)
    for net in (theirs, sudden):
        net.backbone.load_state_dict(plain)
    ours.load_state_dict(fitted)
    for conv in sudden.modules():
        if 'own_share' in getattr(conv, '_buffers', {}):
            conv.own_share.zero_()
    x = torch.stack([Pictures()[i]['inputs'] for i in range(8)])
    answers = []
    for net in (theirs, ours, sudden):
        net.eval()
        with torch.no_grad():
            answers.append(net.extract_feat(x))
    expected, *others = answers
    error, unfitted = (relative_error(o, expected) for o in others)
    assert error < 0.8 * unfitted


def test_training_sees_the_same_pictures_as_without(weights, tmp_path):
    """Looking at pictures moves no endless sampler on."""
    seen = []
    for name, hooks in (('with', [HOOK]), ('without', [])):
        run = runner(tmp_path / name, weights, *hooks, iters=2)
        labels = []
        run.model.register_forward_pre_hook(
            lambda _, args, kwargs, labels=labels: labels.extend(
                [kwargs['inputs'].clone()] if 'inputs' in kwargs else []),
            with_kwargs=True)
        run.train()
        seen.append(labels)
    for one, two in zip(*seen):
        assert torch.equal(one, two)


def test_a_dataloader_that_is_given_as_an_object(weights, tmp_path, calls):
    run = runner(tmp_path / 'run', weights, HOOK, iters=1)
    run._train_dataloader = DataLoader(Pictures(), batch_size=2)
    run.train()
    assert [len(batch) for batch in calls[0][0]] == [2] * 4


def test_fewer_batches_than_asked_for(weights, tmp_path, calls):
    run = runner(
        tmp_path / 'run', weights, dict(HOOK, num_batches=50), iters=1)
    run._train_dataloader = DataLoader(Pictures(), batch_size=2)
    run.train()
    assert len(calls[0][0]) == 4


def test_a_last_batch_of_fewer_is_left_out(weights, tmp_path, calls):
    run = runner(tmp_path / 'run', weights, HOOK, iters=1)
    run._train_dataloader = DataLoader(
        Subset(Pictures(), range(7)), batch_size=2)
    run.train()
    assert [len(batch) for batch in calls[0][0]] == [2] * 3


def test_pictures_are_on_disk_until_the_end(weights, tmp_path, monkeypatch):
    reconstruct = reconstruction_hook.reconstruct
    files = []

    def note(model, batches, *args, **kwargs):
        assert len(batches) == len(list(batches)) == 4
        # Each time read again, none is kept.
        assert batches[0] is not batches[0]
        assert torch.equal(batches[0], batches[0])
        assert not any(map(torch.is_tensor, vars(batches).values()))
        files.extend(batches.files)
        assert all(file.exists() for file in files)
        return reconstruct(model, batches, *args, **kwargs)

    monkeypatch.setattr(reconstruction_hook, 'reconstruct', note)
    runner(tmp_path / 'run', weights, HOOK, iters=1).train()
    assert len(files) == 4 and not any(file.exists() for file in files)


class Stop(Hook):
    """Stops a run at an iteration."""

    def __init__(self, number):
        self.number = number

    def before_train_iter(self, runner, batch_idx, data_batch=None):
        if runner.iter == self.number:
            raise KeyboardInterrupt


def test_what_is_fitted_is_kept_until_a_checkpoint_has_it(
        weights, tmp_path, monkeypatch, calls):
    work_dir = tmp_path / 'run'
    file = work_dir / 'reconstruction.pth'
    fits = []
    fit = whole_model._fit
    monkeypatch.setattr(whole_model, '_fit',
                        lambda *args: fits.append(fit(*args)))
    for number in (0, 2):
        with pytest.raises(KeyboardInterrupt):
            runner(work_dir, weights, HOOK, Stop(number)).train()
        assert file.exists() and len(fits) == 2
    assert equal(calls[0][1], calls[1][1])
    resumed = runner(work_dir, weights, HOOK, Stop(2), resume=True)
    with pytest.raises(KeyboardInterrupt):
        resumed.train()
    assert len(calls) == 2 and not file.exists()


def test_too_few_batches_in_the_data(weights, tmp_path):
    run = runner(tmp_path / 'run', weights, HOOK, iters=1)
    run._train_dataloader = DataLoader(Pictures(), batch_size=4)
    with pytest.raises(ValueError, match='2 batches .* 3 or more'):
        run.train()


@pytest.mark.parametrize('number', [0, -1, 2])
def test_too_few_batches(number):
    with pytest.raises(ValueError, match='num_batches=.* 3 or more'):
        ReconstructionHook(number)


def test_no_steps():
    with pytest.raises(ValueError, match='steps=0 .* positive'):
        ReconstructionHook(steps=0)


def test_nobody_keeps_a_kernel(weights, tmp_path):
    run = runner(
        tmp_path / 'run',
        weights,
        HOOK,
        model=Net(conv_cfg=dict(type='KernelDNA')))
    with pytest.raises(ValueError, match='keep_own_kernel=True'):
        run.train()


SCRIPT = '''
import sys
import torch
from mmengine.dist import all_gather, get_rank
from tests.test_pretrained import hook_runs as runs
from mmkdna.launch.distributed import start_gloo
from mmkdna.reconstruction import reconstruction_hook

torch.set_num_threads(1)
# mmengine's own way asks for a GPU.
start_gloo()
reconstruct = reconstruction_hook.reconstruct
states = []


def note(model, *args, **kwargs):
    report = reconstruct(model, *args, **kwargs)
    states.append({k: v.clone() for k, v in model.state_dict().items()})
    return report


reconstruction_hook.reconstruct = note
run = runs.runner(
    sys.argv[1], sys.argv[2],
    dict(type='ReconstructionHook', num_batches=3, steps=3),
    iters=1, launcher='pytorch',
    cfg=dict(model_wrapper_cfg=dict(
        type='MMDistributedDataParallel', device_ids=None)))
run.train()
state, = states
for key, value in state.items():
    first, second = all_gather(value)
    assert torch.equal(first, second), key
if get_rank() == 0:
    torch.save(state, sys.argv[3])
print('the same on both', flush=True)
torch.distributed.barrier()
'''


def test_two_processes_fit_the_same(weights, tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    said = run_command(
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node=2',
        script,
        tmp_path / 'work',
        weights,
        tmp_path / 'fitted.pth',
        cwd=tmp_path)
    assert said.count('the same on both') == 2
    fitted = torch.load(tmp_path / 'fitted.pth')
    assert not any('own_' in key for key in fitted)


def picture(size):
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8)


def test_pictures_of_mmseg_are_padded_as_in_training():
    structures = pytest.importorskip('mmseg.structures')
    from mmengine.structures import PixelData
    samples = []
    sizes = (12, 16), (16, 9)
    for size in sizes:
        labels = PixelData(data=torch.zeros(1, *size, dtype=torch.long))
        samples.append(structures.SegDataSample(gt_sem_seg=labels))
    model = nn.Module()
    model.data_preprocessor = MODELS.build(
        dict(type='mmseg.SegDataPreProcessor', size=(16, 16)))
    batch = dict(inputs=list(map(picture, sizes)), data_samples=samples)
    assert reconstruction_hook.training_inputs(model,
                                               batch).shape == (2, 3, 16, 16)


def test_whole_batches_are_not_resized_as_by_mmdet():
    structures = pytest.importorskip('mmdet.structures')
    resize = dict(
        type='mmdet.BatchSyncRandomResize',
        random_size_range=(64, 64),
        interval=1)
    model = nn.Module()
    model.data_preprocessor = MODELS.build(
        dict(type='mmdet.DetDataPreprocessor', batch_augments=[resize]))
    sample = structures.DetDataSample(
        metainfo=dict(img_shape=(32, 32), batch_input_shape=(32, 32)))
    batch = dict(inputs=[picture((32, 32))], data_samples=[sample])
    assert reconstruction_hook.training_inputs(model,
                                               batch).shape == (1, 3, 32, 32)
    assert len(model.data_preprocessor.batch_augments) == 1


def test_pictures_are_not_mixed_as_by_mmpretrain():
    structures = pytest.importorskip('mmpretrain.structures')
    model = nn.Module()
    model.data_preprocessor = MODELS.build(
        dict(
            type='mmpretrain.ClsDataPreprocessor',
            num_classes=2,
            to_onehot=True,
            batch_augments=dict(augments=dict(type='Mixup', alpha=0.8))))
    images = [picture((8, 8)) for _ in range(2)]
    samples = [
        structures.DataSample().set_gt_label(label) for label in range(2)
    ]
    found = reconstruction_hook.training_inputs(
        model, dict(inputs=images, data_samples=samples))
    assert torch.equal(found, torch.stack(images).float())
    assert model.data_preprocessor.batch_augments is not None
