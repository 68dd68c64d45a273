"""What is in a checkpoint file is read, what it would do is not done."""
import io
import os
import pickle
import re
import tarfile
import time
from collections import Counter

import numpy as np
import pytest
import torch
from mmengine.logging import HistoryBuffer, MMLogger
from mmengine.registry import PARAM_SCHEDULERS
from torch import nn

from mmkdna.checkpoints.files import (CheckpointError, load_file,
                                      load_with_state)
from .crafted import Payload, doubled, save_program


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
    with pytest.raises(CheckpointError, match='function takes no state'):
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


def test_no_setting_of_torch_makes_a_difference(tmp_path, monkeypatch):
    path = tmp_path / 'a.pth'
    torch.save(
        dict(state_dict=state_dict(), message_hub=training_state()), path)
    monkeypatch.setenv('TORCH_FORCE_WEIGHTS_ONLY_LOAD', '1')
    load_file(path)
    monkeypatch.setenv('TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD', '1')
    torch.save(dict(a=Payload(tmp_path / 'ran')), path)
    with pytest.raises(CheckpointError, match='mkdir'):
        load_file(path)


@pytest.mark.parametrize('protocol', [2, 3, 4, 5])
def test_any_protocol(tmp_path, protocol):
    path = tmp_path / 'a.pth'
    saved = dict(
        state_dict=state_dict(),
        # What mmengine saves it saves by the second one.
        array=np.ones(2) if protocol < 5 else None,
        plain=[True, -1, 1 << 40, 0.5, 'a' * 300, ('b', ), {1, 2}, None],
        kinds=[torch.float16,
               torch.device('cpu'),
               torch.Size([2, 3])])
    torch.save(saved, path, pickle_protocol=protocol)
    read = load_with_state(path)
    assert read['plain'] == saved['plain'] and read['kinds'] == saved['kinds']
    np.testing.assert_array_equal(read['array'], saved['array'])
    assert read['state_dict']._metadata == saved['state_dict']._metadata


@pytest.mark.parametrize('form', [{}, OLD])
def test_tensors_are_read_as_torch_reads_them(tmp_path, form):
    path = tmp_path / 'a.pth'
    base = torch.arange(12.)
    saved = dict(
        base=base,
        part=base[3:9].view(2, 3).t(),
        wide=torch.ones(1).expand(5),
        empty=torch.zeros(0, 3),
        scalar=torch.tensor(2),
        weight=nn.Parameter(base.clone()),
        fixed=nn.Parameter(base.clone(), requires_grad=False),
        complex=torch.tensor([1 + 2j]))
    for kind in ('float64', 'float16', 'bfloat16', 'int64', 'int32', 'int16',
                 'int8', 'uint8', 'bool'):
        saved[kind] = torch.tensor([0, 1, 1]).to(getattr(torch, kind))
    torch.save(saved, path, **form)
    read = load_file(path)
    for key, value in torch.load(path).items():
        ours = read[key]
        assert type(ours) is type(value) and ours.dtype == value.dtype
        assert ours.requires_grad == value.requires_grad
        assert ours.stride() == value.stride()
        assert torch.equal(ours, value)
    read['base'][3] = 7
    assert read['part'][0, 0] == 7


@pytest.mark.parametrize('location', [
    None, 'meta',
    torch.device('meta'), {
        'cpu': 'meta'
    }, lambda *_: torch.UntypedStorage(1, device='meta')
])
def test_where_tensors_go(tmp_path, location):
    path = tmp_path / 'a.pth'
    torch.save(state_dict(), path)
    weight = load_file(path, location)['0.weight']
    assert weight.is_meta == (location is not None)


def test_every_part_has_its_checksum_looked_at(tmp_path):
    """Also where torch.load does not look."""
    path = tmp_path / 'a.pth'
    torch.save(state_dict(), path)
    data = path.read_bytes()
    at = data.index(torch.tensor(7.).numpy().tobytes())
    path.write_bytes(data[:at] + b'\1' + data[at + 1:])
    assert torch.load(path)['0.weight'][0, 0, 0, 0] != 7
    with pytest.raises(CheckpointError, match='damaged .*CRC'):
        load_file(path)


@pytest.mark.parametrize('name, program', [
    ('lists', doubled(b']', b'e')),
    ('dicts', b'}q\0' + b'}q\1X\1\0\0\0ah\0sX\1\0\0\0bh\0sq\0' * 300),
    ('itself', b']q\x01h\x01a'),
    ('depth', b']' * 5000 + b'a' * 4999),
    ('keys', b'}' + doubled(b')', None) + b'Ns'),
    ('sets', b'c__builtin__\nset\n]' + doubled(b')', None) + b'a\x85R'),
    ('counter',
     b'ccollections\nCounter\n]' + doubled(b')', None) + b'N\x86a\x85R'),
    ('number', b'\x8b\0\0\1\0' + b'\x7f' * (1 << 16)),
    ('memo', b'Nr\xff\xff\xff\x7f'),
])
def test_what_would_take_for_ever(tmp_path, name, program):
    path = tmp_path / 'a.pth'
    save_program(path, program)
    start = time.perf_counter()
    for load in (load_file, load_with_state):
        if name == 'memo':
            assert load(path) == dict(a=None)
            continue
        with pytest.raises(CheckpointError, match='a.pth'):
            load(path)
    assert time.perf_counter() - start < 5


def rebuilt(offset, size, stride):
    """A program that makes a tensor of a memory of 8 numbers."""
    return (b'ctorch._utils\n_rebuild_tensor_v2\n((X\7\0\0\0storagectorch\n'
            b'FloatStorage\nX\1\0\0\0' + b'0X\3\0\0\0cpuK\x08tQ' + offset +
            size + stride + b'\x89NtR')


@pytest.mark.parametrize('offset, size, stride', [
    (b'K\0', b'K\x09\x85', b'K\1\x85'),
    (b'K\1', b'K\x08\x85', b'K\1\x85'),
    (b'K\0', b'K\x05\x85', b'K\2\x85'),
    (b'J\xff\xff\xff\xff', b'K\1\x85', b'K\1\x85'),
    (b'K\7', b'K\2\x85', b'J\xff\xff\xff\xff\x85'),
    (b'K\0', b'\x8a\x08' + b'\0' * 7 + b'\x40\x85', b'K\x04\x85'),
    (b'K\0', b'K\x08\x85', b')'),
    (b'K\0', b'X\1\0\0\x008\x85', b'K\1\x85'),
    (b'K\0', b'\x8a\x08' + b'\0' * 7 + b'\x40\x85', b'K\0\x85'),
])
def test_tensors_stay_within_their_memory(tmp_path, offset, size, stride):
    path = tmp_path / 'a.pth'
    save_program(path, rebuilt(b'K\0', b'K\x08\x85', b'K\1\x85'))
    assert torch.equal(load_file(path)['a'], torch.arange(8.))
    save_program(path, rebuilt(offset, size, stride))
    with pytest.raises(CheckpointError, match='a.pth'):
        load_file(path)


def test_memory_is_as_large_as_it_says(tmp_path):
    path = tmp_path / 'a.pth'
    program = rebuilt(b'K\0', b'K\x09\x85', b'K\1\x85')
    save_program(path, program.replace(b'cpuK\x08', b'cpuK\x09'))
    with pytest.raises(CheckpointError, match='of another size'):
        load_file(path)
    # More than the machine has, before any of it is taken.
    torch.save(state_dict(), path, **OLD)
    larger, found = re.subn(rb'(cpuq.)K\xd8', b'\\1J\xff\xff\xff\x7f',
                            path.read_bytes())
    assert found == 1
    path.write_bytes(larger)
    with pytest.raises(CheckpointError, match='larger than it'):
        load_file(path)


@pytest.mark.parametrize('form', [{}, OLD])
@pytest.mark.parametrize('key', ['state_dict', 'ema_state_dict', None])
@pytest.mark.parametrize('value', ['nan', 'inf', '-inf'])
def test_weights_that_are_no_numbers(tmp_path, form, key, value):
    path = tmp_path / 'a.pth'
    weights = state_dict()
    weights['0.bias'][3:5] = float(value)
    weights['1.running_var'][0] = float('nan')
    torch.save({key: weights} if key else weights, path, **form)
    first = f'{key}.0.bias' if key else '0.bias'
    for load in (load_file, load_with_state):
        with pytest.raises(CheckpointError) as error:
            load(path)
        for part in (str(path), f'{first} has 2 of its 8,',
                     '2 of the 7 tensors', 'before its training went wrong'):
            assert part in str(error.value)


def test_a_mask_and_a_scheduler_may_be_infinite(tmp_path):
    path = tmp_path / 'a.pth'
    weights = dict(attn_mask=torch.tensor([0, -float('inf')]))
    torch.save(dict(state_dict=weights, best=float('inf')), path)
    assert load_file(path)['best'] == float('inf')
