"""The weights in the folder weights: whole, small, and what they say."""
import re
from collections import defaultdict

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_checkpoint

from mmkdna import KernelDNAConv2d
from mmkdna.checkpoints.files import load_file
from mmkdna.checkpoints.names import read_models, resolve
from mmkdna.launch.model import init_model
from tests.runs import ROOT
from tests.utils import children_of, kernel_dna

RELEASED = {
    name: model
    for name, model in read_models().items() if model.get('Weights')
}
# In bytes.
LARGEST, ALL = 8e6, 30e6


@pytest.fixture(autouse=True)
def surroundings(tmp_path, monkeypatch):
    """No mirror and an empty cache."""
    monkeypatch.delenv('MMKDNA_WEIGHTS', raising=False)
    monkeypatch.setenv('TORCH_HOME', str(tmp_path))


def test_every_file_is_released():
    files = sorted((ROOT / 'weights').iterdir())
    assert files == sorted(ROOT / m['Weights'] for m in RELEASED.values())
    sizes = [file.stat().st_size for file in files]
    assert max(sizes) <= LARGEST and sum(sizes) <= ALL


def test_every_task_has_a_model_that_shares_and_its_control():
    tasks = defaultdict(list)
    for model in RELEASED.values():
        result, = model['Results']
        tasks[result['Task'],
              result['Dataset']].append(bool(model['Metadata']['Children']))
    assert {task
            for task, _ in tasks} == {
                'Image Classification', 'Object Detection',
                'Semantic Segmentation'
            }
    assert [sorted(both)
            for both in tasks.values()] == [[False, True]] * len(tasks)


@pytest.mark.parametrize('name', RELEASED)
def test_an_entry_says_what_it_is_and_how_to_get_it(name):
    model = RELEASED[name]
    file = ROOT / model['Weights']
    assert re.fullmatch(name + r'_\d{8}-[0-9a-f]{8}\.pth', file.name)
    assert all(result['Metrics'] for result in model['Results'])
    assert (ROOT / model['Training Log']).is_file()
    tool, config = model['Training Command'].split()[1:3]
    assert (ROOT / tool).is_file()
    trained = Config.fromfile(ROOT / config)
    assert trained.model == Config.fromfile(ROOT / model['Config']).model


@pytest.mark.parametrize('name', RELEASED)
def test_by_name_it_is_the_model_of_its_config(name):
    entry = RELEASED[name]
    path = resolve(name)
    assert path == str(ROOT / entry['Weights'])
    loaded = load_file(path)
    assert set(loaded) == {'meta', 'state_dict'}
    types = {
        value.dtype
        for value in loaded['state_dict'].values()
        if value.is_floating_point() and value.ndim > 1
    }
    assert types == {getattr(torch, entry['Metadata']['Precision'])}
    model = init_model(Config.fromfile(ROOT / entry['Config']))
    assert bool(children_of(model)) == bool(entry['Metadata']['Children'])
    load_checkpoint(model, f'mmkdna://{name}', strict=True)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    for key, value in loaded['state_dict'].items():
        assert torch.equal(model.state_dict()[key],
                           value.to(model.state_dict()[key])), key


def test_released_weights_of_every_version_are_there():
    """Those of each must load, strictly, as the test above has them do."""
    versions = set()
    for name, entry in RELEASED.items():
        metadata = load_file(resolve(name))['state_dict']._metadata
        model = init_model(Config.fromfile(ROOT / entry['Config']))
        versions |= {metadata[conv]['version'] for conv in kernel_dna(model)}
    assert versions == set(range(1, KernelDNAConv2d._version + 1))


@pytest.mark.parametrize('name', RELEASED)
def test_it_says_its_classes_and_its_config_and_nothing_of_a_machine(name):
    meta = load_file(resolve(name))['meta']
    cfg = Config.fromstring(meta['cfg'], '.py')
    assert cfg.model == Config.fromfile(ROOT / RELEASED[name]['Config']).model
    head = cfg.model.get('bbox_head') or cfg.model.get(
        'decode_head') or cfg.model.head
    assert len(meta['dataset_meta']['classes']) == head.num_classes
    assert not re.search(r"'/|\"/", meta['cfg'])
