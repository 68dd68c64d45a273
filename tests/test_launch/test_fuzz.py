"""Whatever stands in a config: a clear error, or a training.

What a training itself ends in is the host library's to say, but it leaves no
half of a file either. The cases are the same every time, and are counted;
``pytest -s`` shows what became of them.
"""
import copy
import random
import sys
import traceback
from collections import Counter
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkdna.checkpoints.files import CheckpointError, load_file
from tests.runs import load_tool

pytest.importorskip('mmpretrain')
VALUES = [
    None, -1, 0, 3, 1.5,
    float('nan'), True, '', 'a', 'KernelDNA', [], [1], ['a'], {},
    dict(type='KernelDNA'),
    dict(type=7)
]


def paths(node, at=()):
    """Where in a config there is a value."""
    if isinstance(node, (dict, list)):
        for key in node if isinstance(node, dict) else range(len(node)):
            yield (*at, key)
            yield from paths(node[key], (*at, key))


def spoil(config, rng):
    """Take a value away, or put another one there or beside it."""
    *path, key = rng.choice(list(paths(config)))
    node = config
    for part in path:
        node = node[part]
    kind, value = rng.choice(('other', 'other', 'less', 'more')), node[key]
    if kind == 'less':
        del node[key]
    elif kind == 'more' and isinstance(value, dict):
        value['more'] = rng.choice(VALUES)
    elif kind == 'more' and isinstance(value, list):
        value.append(rng.choice(VALUES))
    else:
        node[key] = rng.choice(VALUES)


def train(train_tool):
    """What becomes of a training, and the word on it."""
    try:
        train_tool.main()
    except SystemExit as end:
        return 'refused', end.code
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        last = [
            frame.line for frame in frames
            if frame.filename.endswith('tools/train.py')
        ][-1]
        assert last == 'runner.train()', repr(error)
        return 'ended in training', str(error)
    return 'trained', ''


@pytest.mark.parametrize('number', [
    pytest.param(12, id='share'),
    pytest.param(250, id='all', marks=pytest.mark.slow)
])
def test_configs(classifier, monkeypatch, number):
    whole = Config.fromfile('tiny.py').to_dict()
    tool = load_tool('train')
    counts = Counter()
    rng = random.Random(0)
    for case in range(number):
        # Mmengine's visualizer goes on with a folder of the same second.
        runs = Path(f'runs{case}')
        monkeypatch.setattr(sys, 'argv',
                            ['train.py', 'spoilt.py', '--work-dir',
                             str(runs)])
        config = copy.deepcopy(whole)
        spoil(config, rng)
        Config(config).dump('spoilt.py')
        DefaultScope._instance_dict.clear()
        end, said = train(tool)
        counts[end] += 1
        if end == 'refused':
            assert isinstance(said, str) and len(said) > 20
            assert '\n' not in said
            # The log of a runner that could not be built whole.
            assert not list(runs.rglob('*.pth'))
        for file in runs.rglob('*.pth'):
            try:
                load_file(file)
            except CheckpointError as error:
                # A training may diverge; nothing goes on from that.
                assert 'NaN' in str(error)
    print(*counts.items(), sep='\n')
    assert {'trained', 'refused'} <= set(counts)
