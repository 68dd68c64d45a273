"""Whatever a file is made of: a clear error, or what was saved.

The cases are the same every time, and are counted; ``pytest -s`` shows how
many of which kind were taken and refused. The slow tests try twenty times as
many.
"""
import pickle
import random
import time
from collections import Counter

import cv2
import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config

from mmkdna.checkpoints.files import (CheckpointError, load_file,
                                      load_with_state)
from mmkdna.checkpoints.names import read_models, resolve
from mmkdna.launch.data_check import unreadable_json
from mmkdna.launch.errors import CommandError
from mmkdna.launch.form_check import check_form
from mmkdna.launch.model import build_model
from mmkdna.launch.pictures import Pictures
from mmkdna.options import SharingOptions
from .crafted import Payload, save_program, text

OLD = dict(_use_new_zipfile_serialization=False)
# Of one case, on a machine that others use as well.
SECONDS = 20
SHARES = [
    pytest.param(1, id='share'),
    pytest.param(20, id='all', marks=pytest.mark.slow)
]


class Tally:
    """Counts what became of cases, none of which may take long."""

    def __init__(self, folder):
        self.folder = folder
        self.counts = Counter()

    def take(self, kind, call, errors=(CheckpointError, )):
        """Try a case.

        Returns:
            Any: What the call returned, or None.
        """
        start = time.perf_counter()
        try:
            result, what = call(), 'taken'
        except errors as error:
            assert len(str(error)) > 20
            result, what = None, 'refused'
        assert time.perf_counter() - start < SECONDS
        assert not (self.folder / 'ran').exists()
        self.counts[f'{kind}, {what}'] += 1
        return result

    def report(self, number):
        print(*sorted(self.counts.items()), sep='\n')
        assert sum(self.counts.values()) == number


@pytest.fixture
def tally(tmp_path):
    return Tally(tmp_path)


def saved():
    """A small checkpoint of a training."""
    weights = dict(weight=torch.arange(40.).view(5, 8), bias=torch.ones(5))
    return dict(
        state_dict=weights,
        meta=dict(epoch=3, classes=('cat', 'dog')),
        message_hub=dict(best=np.float64(0.5)))


def same(ours, theirs):
    """Whether two checkpoints have the same in them."""
    if isinstance(theirs, dict):
        return list(ours) == list(theirs) and all(
            same(ours[key], theirs[key]) for key in theirs)
    if isinstance(theirs, torch.Tensor):
        return ours.dtype == theirs.dtype and torch.equal(ours, theirs)
    return type(ours) is type(theirs) and ours == theirs


@pytest.mark.parametrize('times', SHARES)
def test_damaged_files(tmp_path, tally, times):
    """Cut, with a bit changed, with bytes lost or put in or swapped."""
    rng = random.Random(0)
    path = tmp_path / 'a.pth'
    number = 60 * times
    for form in ({}, OLD):
        torch.save(saved(), path, **form)
        data = path.read_bytes()
        right = load_with_state(path)
        for _ in range(number):
            kind = rng.choice(('cut', 'bit', 'lost', 'more', 'swapped'))
            at, to = sorted(rng.sample(range(len(data)), 2))
            bad = bytearray(data)
            if kind == 'cut':
                bad = bad[:at]
            elif kind == 'bit':
                bad[at] ^= 1 << rng.randrange(8)
            elif kind == 'lost':
                del bad[at:min(to, at + 50)]
            elif kind == 'more':
                bad[at:at] = rng.randbytes(rng.randrange(1, 50))
            else:
                bad[at:at + 50], bad[to:to + 50] = (bad[to:to + 50],
                                                    bad[at:at + 50])
            path.write_bytes(bad)
            found = tally.take(f'{"old" if form else "zip"}, {kind}',
                               lambda: load_with_state(path))
            # The old format has no checksum.
            assert found is None or form or same(found, right)
    tally.report(2 * number)


# What pickles are made of: values, what works on them, and names.
PIECES = [
    b'N', b'K\1', b'G?\xf8\0\0\0\0\0\0', b'\x88', b']', b'}', b')', b'\x8f',
    b'(', b'a', b'e', b's', b'u', b't', b'\x85', b'\x86', b'\x87', b'R',
    b'\x81', b'b', b'Q', b'0', b'2', b'q\0', b'q\1', b'h\0', b'h\1', b'\x94',
    b'd', b'l', b'o', b'i', b'P\n', b'\x82\1', b'\x92', b'\x93', b'\x90',
    text(b'a'), text(b'state_dict'), text(b'__setstate__'), text(b'builtins'),
    text(b'exec'), b'\x8a\1\xff', b'C\1a', b'cbuiltins\ngetattr\n',
    b'cbuiltins\nexec\n', b'cos\nmkdir\n', b'c__builtin__\nset\n',
    b'ccollections\nOrderedDict\n', b'ccollections\nCounter\n',
    b'cmmengine.logging.history_buffer\nHistoryBuffer\n', b'cnumpy\ndtype\n',
    b'cnumpy.core.multiarray\n_reconstruct\n', b'cnumpy\nndarray\n',
    b'cnumpy.core.multiarray\nscalar\n', b'c_codecs\nencode\n',
    b'ctorch\nSize\n', b'ctorch\nFloatStorage\n', b'ctorch\nfloat16\n',
    b'ctorch._utils\n_rebuild_tensor_v2\n',
    b'ctorch._utils\n_rebuild_parameter\n',
    b'ctorch._tensor\n_rebuild_from_type_v2\n',
    b'(X\7\0\0\0storagectorch\nFloatStorage\n' + text(b'0') + text(b'cpu') +
    b'K\x08tQ'
]  # yapf: disable
CALLS = b'cos\nmkdir\n' + text(b'RAN') + b'\x85R'


@pytest.mark.parametrize('times', SHARES)
def test_programs(tmp_path, tally, times):
    """Pickles of random pieces, of which some call what makes a folder."""
    rng = random.Random(0)
    path = tmp_path / 'a.pth'
    calls = CALLS.replace(text(b'RAN'), text(str(tmp_path / 'ran').encode()))
    number = 150 * times
    for _ in range(number):
        program = b''.join(rng.choices(PIECES, k=rng.randrange(1, 12)))
        kind = rng.choice(('pieces', 'with a call'))
        if kind == 'with a call':
            program += calls
        save_program(path, program)
        load = rng.choice((load_file, load_with_state))
        tally.take(kind, lambda: load(path))
    assert not tally.counts['with a call, taken']
    tally.report(number)


@pytest.mark.parametrize('times', SHARES)
def test_pickled_objects(tmp_path, tally, times):
    """In every place of a checkpoint, in both formats and nested."""
    rng = random.Random(0)
    path = tmp_path / 'a.pth'
    number = 15 * times
    for _ in range(number):
        checkpoint = saved()
        bad = Payload(tmp_path / 'ran')
        for _ in range(rng.randrange(3)):
            bad = rng.choice(([bad], (bad, ), dict(a=bad)))
        holder = rng.choice(
            (checkpoint, *(value for value in checkpoint.values())))
        holder[rng.choice((*holder, 'new'))] = bad
        form = rng.choice(({}, OLD))
        torch.save(checkpoint, path, **form)
        if rng.random() < 0.2:
            path.write_bytes(pickle.dumps(checkpoint))
        tally.take('object', lambda: load_file(path))
    assert tally.counts == {'object, refused': number}
    tally.report(number)


@pytest.mark.parametrize('times', SHARES)
def test_state_dicts(classifier, times):
    """Weights that are missing, of another shape or type, or more."""
    tally = Tally(classifier)
    rng = random.Random(0)
    cfg = Config.fromfile('tiny.py')
    model = build_model(cfg)
    right = model.state_dict()
    keys = [key for key in right if not key.endswith('tracked')]
    number = 4 * times
    kinds = dict(
        missing=lambda value: None,
        shape=lambda value: value[None],
        longer=lambda value: torch.cat([value, value]),
        number=lambda value: 7,
        text=lambda value: 'a',
        list=lambda value: value.tolist(),
        nan=lambda value: torch.full_like(value, float('nan')))
    for _ in range(number):
        kind, key = rng.choice(list(kinds)), rng.choice(keys)
        state = dict(right)
        state[key] = kinds[kind](state[key])
        if kind == 'missing':
            del state[key]
        torch.save(dict(state_dict=state), 'a.pth')
        tally.take(kind, lambda: check_form(cfg, model, 'a.pth'),
                   (CheckpointError, CommandError))
    assert not any(key.endswith('taken') for key in tally.counts), tally.counts
    tally.report(number)


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text()
    | st.sampled_from(['layer1', '(', 'Conv2d', 'KernelDNA']),
    lambda inner: st.lists(inner, max_size=3)
    | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5)
OPTIONS = sorted(SharingOptions.__dataclass_fields__)


@settings(max_examples=30)
@given(st.dictionaries(st.sampled_from([*OPTIONS, 'rd_ration', 'a']), VALUES))
def test_options_of_conv_cfg(options):
    """An error names the option it is about."""
    try:
        SharingOptions(**options)
    except (TypeError, ValueError) as error:
        assert any(name in str(error) for name in options)


@pytest.mark.parametrize('times', SHARES)
def test_metafiles(tmp_path, tally, times):
    """Random YAML, and names that are paths."""
    rng = random.Random(0)
    index, metafile = tmp_path / 'index.yml', tmp_path / 'metafile.yml'
    whole = yaml.safe_dump(
        dict(Models=[
            dict(Name='a', Weights='../a_20260101-01234567.pth'),
            dict(Name='../b', Weights=None),
            dict(Name='c', Weights='weights/c_20260101-01234567.pth')
        ]))
    number = 60 * times
    for _ in range(number):
        index.write_text('Import: [metafile.yml]')
        kind = rng.choice(('cut', 'type', 'name', 'bytes'))
        name = rng.choice(('a', 'c', '../b', '../../etc/passwd', '', '/', 'x'))
        metafile.write_text(whole)
        if kind == 'cut':
            metafile.write_text(whole[:rng.randrange(len(whole))])
        elif kind == 'type':
            value = rng.choice(
                (7, 'a', [], [7], ['a'], dict(a=1), [[]], [dict(Name=[1])],
                 [dict(Name='a', Weights=7)], [dict(Name='a', Weights=[])]))
            (index if rng.random() < 0.3 else metafile).write_text(
                yaml.safe_dump(
                    rng.choice((value, dict(Models=value, Import=value)))))
        elif kind == 'bytes':
            metafile.write_bytes(rng.randbytes(20))
        errors = (CheckpointError, FileNotFoundError)
        tally.take(kind, lambda: resolve(name, str(index)), errors)
        tally.take(kind, lambda: read_models(str(index)), errors)
    assert not any(path.name.startswith('a_') for path in tmp_path.iterdir())
    tally.report(2 * number)


@pytest.mark.parametrize('times', SHARES)
def test_annotations(tmp_path, tally, times):
    """A file that is no JSON is named, and one that is is not."""
    rng = random.Random(0)
    path = tmp_path / 'a.json'
    whole = '{"images": [{"id": 1, "file_name": "a\u00e9.jpg"}], "x": [1.5]}'
    cfg = Config(dict(train_dataloader=dict(dataset=dict(ann_file=str(path)))))
    number = 100 * times
    for _ in range(number):
        data = bytearray(whole.encode())
        kind = rng.choice(('cut', 'bytes', 'nested', 'whole'))
        if kind == 'cut':
            data = data[:rng.randrange(len(data))]
        elif kind == 'bytes':
            # A digit alone would be JSON.
            data = b'\xff' + rng.randbytes(rng.randrange(30))
        elif kind == 'nested':
            data = b'[' * rng.choice((10, 100_000))
        path.write_bytes(data)
        said = tally.take(kind, lambda: unreadable_json(cfg, 'train'))
        assert bool(said) == (kind != 'whole')
        assert not said or str(path) in said
    tally.report(number)


@pytest.mark.parametrize('times', SHARES)
def test_pictures(tmp_path, tally, times):
    """A damaged picture is named, or it is one of the size asked for."""

    class Model:

        @staticmethod
        def data_preprocessor(data, training):
            return data

    rng = random.Random(0)
    picture = np.random.randint(0, 255, (20, 30, 3), np.uint8)
    number = 40 * times
    for _ in range(number):
        suffix = rng.choice(('.png', '.jpg', '.bmp'))
        whole = cv2.imencode(suffix, picture)[1].tobytes()
        path = tmp_path / f'a{suffix}'
        kind = rng.choice(('cut', 'bit', 'bytes', 'empty'))
        data = bytearray(whole)
        if kind == 'cut':
            data = data[:rng.randrange(len(data))]
        elif kind == 'bit':
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        elif kind == 'bytes':
            data = rng.randbytes(50)
        elif kind == 'empty':
            data = b''
        path.write_bytes(data)
        batches = tally.take(
            kind, lambda: list(Pictures(tmp_path, Model, (16, 16), 1, [path])),
            (CommandError, ))
        if batches is not None:
            assert batches[0][0].shape == (3, 16, 16)
    tally.report(number)
