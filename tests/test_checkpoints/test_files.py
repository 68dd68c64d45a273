"""What is in a checkpoint file is read, what it would do is not done."""
import io
import os
import pickle
import tarfile
import zipfile
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from mmkdna.checkpoints.files import (CheckpointError, load_file,
                                      load_with_state)


class Payload:
    """A pickle of it makes a file when it is loaded."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path, )


def state_dict():
    model = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8))
    model[0].weight.data[0, 0, 0, 0] = 7
    return model.state_dict()


def training_state():
    """What the Runner saves in message_hub, beside plain values."""
    buffer = HistoryBuffer()
    buffer.update(0.5)
    return dict(
        log_scalars=dict(loss=buffer),
        runtime_info=dict(iter=3, best_score=np.float64(0.5)))


OLD = dict(_use_new_zipfile_serialization=False)


@pytest.mark.parametrize('form', [{}, OLD])
def test_plain_checkpoint(tmp_path, form):
    weights = state_dict()
    meta = dict(
        epoch=3, dataset_meta=dict(classes=('cat', 'dog'), used={0, 1}))
    path = tmp_path / 'a.pth'
    torch.save(dict(meta=meta, state_dict=weights), path, **form)
    checkpoint = load_file(path)
    assert checkpoint['meta'] == meta
    assert checkpoint['state_dict']._metadata == weights._metadata
    assert checkpoint['state_dict'].keys() == weights.keys()
    for key, value in checkpoint['state_dict'].items():
        assert torch.equal(value, weights[key])

    torch.save(weights, path, **form)
    assert load_file(path)['0.weight'][0, 0, 0, 0] == 7
    assert load_file(path, 'meta')['0.weight'].is_meta


@pytest.mark.parametrize('form', [{}, OLD])
def test_training_state_is_left_out(tmp_path, form):
    weights = state_dict()
    weights['0.weight'] = nn.Parameter(weights['0.weight'])
    # As FSDP does.
    weights['1.weight']._has_been_cloned = True
    path = tmp_path / 'a.pth'
    # As a MultiStepLR does.
    schedulers = [dict(milestones=Counter([3]), last_step=1)]
    torch.save(
        dict(
            state_dict=weights,
            message_hub=training_state(),
            param_schedulers=schedulers), path, **form)
    checkpoint = load_file(path)
    assert checkpoint['param_schedulers'] == schedulers
    assert checkpoint['message_hub'] == dict(
        log_scalars={}, runtime_info=dict(iter=3))
    for key in ('0.weight', '1.weight'):
        assert torch.equal(checkpoint['state_dict'][key], weights[key])
    assert checkpoint['state_dict']._metadata == weights._metadata
    # Nothing of it keeps others from reading what is made of it.
    torch.save(checkpoint, path)
    torch.load(path, weights_only=True)


def test_every_scheduler_and_optimizer_is_read(tmp_path):
    path = tmp_path / 'a.pth'
    weights = [nn.Parameter(torch.ones(3))]
    schedulers = dict(
        ConstantLR={},
        CosineAnnealingLR=dict(T_max=5),
        CosineRestartLR=dict(periods=[2], restart_weights=[1], eta_min=0.),
        ExponentialLR=dict(gamma=0.1),
        LinearLR={},
        MultiStepLR=dict(milestones=[3]),
        OneCycleLR=dict(eta_max=0.1, total_steps=10),
        PolyLR=dict(eta_min=0.),
        ReduceOnPlateauLR=dict(monitor='loss'),
        StepLR=dict(step_size=2))
    for name, options in schedulers.items():
        for kind in (torch.optim.SGD, torch.optim.AdamW, torch.optim.Adagrad):
            optimizer = kind(weights, lr=0.1)
            weights[0].grad = torch.ones(3)
            optimizer.step()
            scheduler = PARAM_SCHEDULERS.get(name)(optimizer, **options)
            torch.save(
                dict(
                    state_dict=state_dict(),
                    message_hub=training_state(),
                    optimizer=optimizer.state_dict(),
                    param_schedulers=[scheduler.state_dict()]), path)
            assert load_file(path)['optimizer']['param_groups'], name


def test_numpy_values_are_left_out_aloud(tmp_path):
    path, log = tmp_path / 'a.pth', tmp_path / 'log'
    MMLogger.get_instance('test_numpy_values', log_file=str(log))
    meta = dict(palette=[np.zeros(3)], dataset=dict(mean=np.zeros(3), size=5))
    torch.save(dict(state_dict=state_dict(), meta=meta), path)
    assert load_file(path)['meta'] == dict(dataset=dict(size=5))
    assert f'{path}: meta.palette, meta.dataset.mean: ' in log.read_text()

    torch.save(dict(state_dict=dict(weight=np.zeros(3))), path)
    with pytest.raises(
            CheckpointError, match='state_dict.weight: only tensors'):
        load_file(path)
    torch.save(dict(weight=np.zeros(3)), path)
    with pytest.raises(CheckpointError, match='weight: only tensors'):
        load_file(path)


@pytest.mark.parametrize('form', [{}, OLD])
@pytest.mark.parametrize('opened', [False, True])
def test_training_state_is_read_exactly(tmp_path, form, opened):
    path = tmp_path / 'a.pth'
    state = training_state()
    state['log_scalars']['empty'] = HistoryBuffer(max_length=7)
    values = [
        np.float64(1 / 3),
        np.int64(-2),
        np.bool_(True),
        np.str_('\xe9'),
        np.zeros((0, 2)),
        np.array(7.5),
        np.array(['a', 'bc']),
        np.arange(6, dtype='>i2').reshape(2, 3).T, b'\x00\xff', (np.uint8(1), )
    ]
    torch.save(
        dict(state_dict=state_dict(), message_hub=state, values=values), path,
        **form)
    if opened:
        with open(path, 'rb') as file:
            checkpoint = load_with_state(io.BytesIO(file.read()))
    else:
        checkpoint = load_with_state(path)
    read = checkpoint['message_hub']
    assert read['runtime_info'] == state['runtime_info']
    assert type(read['runtime_info']['best_score']) is np.float64
    for key, buffer in state['log_scalars'].items():
        assert type(read['log_scalars'][key]) is HistoryBuffer
        assert read['log_scalars'][key].max_length == buffer.max_length
        for ours, theirs in zip(read['log_scalars'][key].data, buffer.data):
            np.testing.assert_array_equal(ours, theirs, strict=True)
            assert ours.flags.writeable
    read['log_scalars']['loss'].update(1.5)
    assert read['log_scalars']['loss'].mean() == 1
    for ours, theirs in zip(checkpoint['values'], values):
        assert type(ours) is type(theirs)
        np.testing.assert_array_equal(ours, theirs, strict=True)
        if isinstance(theirs, (np.ndarray, np.generic)):
            assert ours.dtype == theirs.dtype


@pytest.mark.parametrize('strategy', ['cos', 'linear'])
def test_a_scheduler_goes_on(tmp_path, strategy):
    path = tmp_path / 'a.pth'
    weights = [nn.Parameter(torch.ones(3))]

    def build():
        return PARAM_SCHEDULERS.get('OneCycleLR')(
            torch.optim.SGD(weights, lr=0.1),
            eta_max=0.1,
            total_steps=10,
            anneal_strategy=strategy)

    scheduler = build()
    torch.save(
        dict(
            message_hub=training_state(),
            param_schedulers=scheduler.state_dict()), path)
    other = build()
    other.load_state_dict(load_with_state(path)['param_schedulers'])
    assert other.state_dict() == scheduler.state_dict()


def save_payload(path, payload, form):
    """Save it in one of the ways that torch.load takes."""
    if form == 'pickle':
        path.write_bytes(pickle.dumps(payload, protocol=2))
    elif form == 'old':
        torch.save(dict(a=payload), path, **OLD)
    elif form == 'training':
        # Reading stops on it in the second pass as well.
        torch.save(dict(message_hub=training_state(), a=payload), path)
    else:
        torch.save(dict(a=payload), path)


@pytest.mark.parametrize('form', ['zip', 'training', 'old', 'pickle'])
def test_pickle_that_would_run_code(tmp_path, form):
    path, ran = tmp_path / 'a.pth', tmp_path / 'ran'
    save_payload(path, Payload(ran), form)
    with pytest.raises(CheckpointError, match='a.pth') as error:
        load_with_state(path)
    assert not ran.exists()
    with pytest.raises(CheckpointError, match='a.pth') as error:
        load_file(path)
    assert not ran.exists()
    if form != 'pickle':
        assert f'{os.name}.mkdir' in str(error.value)
    # It would have, had it been unpickled.
    try:
        torch.load(path, weights_only=False)
    except RuntimeError:
        assert form == 'pickle'
    assert ran.exists()


def save_program(path, program):
    """A checkpoint whose dict has what a pickle program leaves as 'a'."""
    made = io.BytesIO()
    torch.save({}, made)
    with zipfile.ZipFile(made) as source, zipfile.ZipFile(path, 'w') as file:
        for name in source.namelist():
            data = source.read(name)
            if name.endswith('data.pkl'):
                data = b'\x80\x02}X\x01\0\0\0a' + program + b's.'
            file.writestr(name, data)


def test_training_state_opens_no_door(tmp_path):
    path = tmp_path / 'a.pth'
    to_file = (b'c__builtin__\ngetattr\ncnumpy\nndarray\nX\x06\0\0\0tofile'
               b'\x86R')
    save_program(path, to_file)
    assert torch.load(path, weights_only=False)['a'] is np.ndarray.tofile
    with pytest.raises(CheckpointError, match='a.pth: a: '):
        load_file(path)
    with pytest.raises(CheckpointError, match='tofile is no state of a tr'):
        load_with_state(path)
    # What getattr gave is called.
    save_program(path, to_file + b')R')
    with pytest.raises(CheckpointError, match='not callable'):
        load_file(path)

    # A pickle may assign to whatever it finds.
    assign = (b'c__builtin__\ngetattr\n0ctorch._utils\n_rebuild_tensor_v2\nN}'
              b'X\x05\0\0\0traceK\x01s\x86b')
    save_program(path, assign)
    with pytest.raises(CheckpointError, match='a.pth: a: '):
        load_file(path)
    assert not hasattr(torch._utils._rebuild_tensor_v2, 'trace')
    torch.load(path, weights_only=False)
    assert torch._utils._rebuild_tensor_v2.trace == 1
    del torch._utils._rebuild_tensor_v2.trace


def test_scripted_module_is_not_run(tmp_path, capfd):

    class Scripted(nn.Module):

        @torch.jit.export
        def __getstate__(self):
            return self.training

        @torch.jit.export
        def __setstate__(self, state: bool):
            print('it ran')
            self.training = state

        def forward(self, x):
            return x

    path = tmp_path / 'a.pth'
    torch.jit.save(torch.jit.script(Scripted()), str(path))
    capfd.readouterr()
    with pytest.raises(CheckpointError, match='is a TorchScript archive'):
        load_file(path)
    assert 'it ran' not in capfd.readouterr().out
    torch.jit.load(str(path))
    assert 'it ran' in capfd.readouterr().out


def test_tar_is_not_unpacked(tmp_path):
    magic = torch.serialization.MAGIC_NUMBER.to_bytes(10, 'little')
    path = tmp_path / 'a.pth'
    with tarfile.open(
            path, 'w', format=tarfile.GNU_FORMAT, encoding='latin1') as tar:
        # A file can be a tar and start like one of torch.save.
        for name in (magic.decode('latin1'), 'storages', 'tensors', 'pickle'):
            data = pickle.dumps(0)
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    assert magic in path.read_bytes()[:16]
    with pytest.raises(CheckpointError, match='is no checkpoint'):
        load_file(path)


@pytest.mark.parametrize('form', [{}, OLD])
def test_truncated_file(tmp_path, form):
    path = tmp_path / 'a.pth'
    torch.save(state_dict(), path, **form)
    data = path.read_bytes()
    for size in (0, 3, 20, 100, len(data) // 2, len(data) - 1):
        path.write_bytes(data[:size])
        with pytest.raises(CheckpointError) as error:
            load_file(path)
        assert str(path) in str(error.value)
        assert f'{size:,} bytes' in str(error.value)
        if size >= 100:
            assert 'truncated or damaged' in str(error.value)
            assert 'miniz' not in str(error.value)


def test_what_is_no_checkpoint(tmp_path):
    path = tmp_path / 'a.pth'
    path.write_text('<html>404 Not Found</html>')
    with pytest.raises(CheckpointError, match='starts with b\'<html>404'):
        load_file(path)
    torch.save(torch.zeros(3), path)
    with pytest.raises(CheckpointError, match='type Tensor, a dict'):
        load_file(path)
    torch.save(nn.Linear(2, 2), path)
    with pytest.raises(CheckpointError, match='asks for torch.nn.*Linear'):
        load_file(path)
    with pytest.raises(FileNotFoundError, match='b.pth'):
        load_file(tmp_path / 'b.pth')


def test_forced_weights_only(tmp_path, monkeypatch):
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    path = tmp_path / 'a.pth'
    torch.save(state_dict(), path)
    load_file(path)
    torch.save(
        dict(state_dict=state_dict(), message_hub=training_state()), path)
    with pytest.raises(CheckpointError, match='FORCE_WEIGHTS_ONLY'):
        load_file(path)
