"""Every config of the repository, its metafile, and the tables."""
import inspect
import json
from collections import defaultdict

import pytest
import torch
import yaml
from mmengine.config import Config
from mmengine.model import revert_sync_batchnorm
from mmengine.registry import MODELS
from torch import nn

from mmkdna.analysis import image_shape, model_cost
from mmkdna.launch.class_check import check_classes
from mmkdna.launch.errors import CommandError
from mmkdna.launch.model import init_model
from tests.runs import ROOT, load_tool
from tests.utils import children_of, kernel_dna, make_images, make_kin

CONFIGS = sorted(
    path for path in ROOT.glob('configs/*/*.py') if path.parts[-2] != '_base_')
FOLDERS = sorted({path.parent for path in CONFIGS})
TABLES = [
    ROOT / 'README.md', ROOT / 'docs' / 'zoo.md',
    *(folder / 'README.md' for folder in FOLDERS)
]
STATES = json.loads((ROOT / 'tests' / 'state_dicts.json').read_text())
# What makes a config another one, beside its schedule.
RECIPE = ('model', 'data_preprocessor', 'train_dataloader', 'test_dataloader',
          'optim_wrapper', 'custom_hooks')
# Controls: the plain networks.
PLAIN = ('-plain_', '-stock_')
FIGURES = ('Parameters', 'FLOPs', 'Image', 'Children', 'Plain Parameters',
           'Plain FLOPs')


def entries(folder):
    """The models in a folder's metafile."""
    return yaml.safe_load((folder / 'metafile.yml').read_text())['Models']


@pytest.fixture(scope='module')
def seen():
    """The figures of the models that have been built, by their configs."""
    return {}


@pytest.fixture(scope='module')
def recipes():
    """The configs that have been read, by what they have but a schedule."""
    return {}


@pytest.mark.parametrize('path', CONFIGS, ids=lambda path: path.stem)
def test_a_config_is_what_its_metafile_says(path, seen, recipes):
    config = Config.fromfile(path)
    recipe = repr([config.get(key) for key in RECIPE])
    assert recipes.setdefault(recipe, path.stem) == path.stem
    assert config.custom_imports['imports'] == ['mmkdna']
    check_classes(config, ('train', 'val', 'test'))
    # Those of other data, or another start, have the same model.
    key = repr(config.model), repr(config.get('data_preprocessor'))
    if key not in seen:
        model = init_model(config)
        seen[key] = (model_cost(model, image_shape(config)),
                     load_tool('misc/update_zoo').state_of(model))
        answers(model, config.default_scope)
        takes_no_other_place(config.model, config.default_scope)
        trains_what_it_adds(model)
        if config.train_dataloader.batch_size < 8:
            norms_what_varies(model)
        if path.parent.name == 'stock':
            starts(model)
    cost, state = seen[key]
    # Where this fails, checkpoints of before do not load.
    assert STATES[path.stem] == state
    assert (cost.children > 0) != any(word in path.name for word in PLAIN)
    entry, = (e for e in entries(path.parent) if e['Name'] == path.stem)
    figures = (cost.parameters, cost.flops, 'x'.join(map(str, cost.shape)),
               cost.children, cost.plain_parameters, cost.plain_flops)
    assert {
        name: entry['Metadata'][name]
        for name in FIGURES
    } == dict(zip(FIGURES, figures))


def answers(model, host):
    """A model answers to a small image."""
    # VGG's linear layers fit one size.
    size = 224 if host == 'mmpretrain' else 64
    with torch.no_grad():
        sample, = model.test_step(make_images(host, size=size))
    predicted = dict(
        mmdet='pred_instances', mmseg='pred_sem_seg', mmpretrain='pred_score')
    assert predicted[host] in sample


def takes_no_other_place(part, scope):
    """Our conv_cfg replaces no special one, as EfficientNet's that pads."""
    if isinstance(part, (list, tuple)):
        for item in part:
            takes_no_other_place(item, scope)
    if not isinstance(part, dict):
        return
    if (part.get('conv_cfg') or {}).get('type') == 'KernelDNA':
        with MODELS.switch_scope_and_registry(scope) as registry:
            cls = registry.get(part['type'])
        parameter = inspect.signature(cls).parameters.get('conv_cfg')
        default = parameter and parameter.default
        assert (default or {}).get('type') in (None, 'Conv2d', 'KernelDNA')
    takes_no_other_place(list(part.values()), scope)


def trains_what_it_adds(model):
    """The blocks more than stock, identities at first, can become others."""
    backbone = model.backbone
    if type(backbone).__name__ != 'KernelDNAResNet':
        return
    _, stock = type(backbone).__bases__
    _, numbers = stock.arch_settings[backbone.depth]
    for layer, number in zip(backbone.res_layers, numbers):
        for block in [*getattr(backbone, layer)][number:]:
            for name, parameter in block.named_parameters():
                assert parameter.requires_grad, f'{layer}, {name}'


def norms_what_varies(model):
    """No gate in neck and heads takes batch statistics of a few images."""
    for name, conv in kernel_dna(model).items():
        gate = conv.adapter and conv.adapter.gate
        if gate is not None and not name.startswith('backbone.'):
            assert not isinstance(gate.norm, nn.BatchNorm2d), name


def starts(model):
    """A host's own initialisation leaves children as they are."""
    for module in model.modules():
        init_cfg = getattr(module, 'init_cfg', None)
        if isinstance(init_cfg, dict) and init_cfg['type'] == 'Pretrained':
            module.init_cfg = None
    model.init_weights()
    for name, child in children_of(model).items():
        gated = child.adapter.gate is not None
        assert bool((child.adapter.filter == gated).all()), name


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_one_of_each_family_trains(folder):
    smallest = min((e for e in entries(folder) if e['Metadata']['Children']),
                   key=lambda e: e['Metadata']['Parameters'])
    config = Config.fromfile(ROOT / smallest['Config'])
    model = revert_sync_batchnorm(init_model(config)).train()
    images = make_images(config.default_scope, 2,
                         getattr(model, 'with_mask', False))
    # As at inference: what it does in training pads to the config's full size.
    data = model.data_preprocessor(images, False)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert loss.isfinite()
    loss.backward()
    for name, child in children_of(model).items():
        for key, parameter in child.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad.isfinite().all(), f'{name}.{key}'


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_a_metafile_lists_its_folder(folder):
    models = entries(folder)
    names = [path.stem for path in CONFIGS if path.parent == folder]
    assert [model['Name'] for model in models] == names
    for model in models:
        assert (ROOT / model['Config']).stem == model['Name']
        assert (ROOT / model['Config']).is_file()
        if any(result['Metrics'] for result in model['Results']):
            assert (ROOT / model['Training Log']).is_file()


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_a_collection_has_all_data_of_its_models(folder):
    text = yaml.safe_load((folder / 'metafile.yml').read_text())
    data = text['Collections'][0]['Metadata']['Training Data']
    used = {model['Metadata']['Training Data'] for model in text['Models']}
    assert ({data} if isinstance(data, str) else set(data)) == used


@pytest.mark.parametrize('folder, name, tasks', [
    ('faster_rcnn', '', ['Object Detection']),
    ('mask_rcnn', '', ['Object Detection', 'Instance Segmentation']),
    ('cascade_rcnn', '', ['Object Detection', 'Instance Segmentation']),
    ('stock', 'solov2', ['Instance Segmentation']),
    ('stock', 'yolov3', ['Object Detection']),
    ('fcn', '', ['Semantic Segmentation']),
    ('resnet', '', ['Image Classification']),
])
def test_tasks(folder, name, tasks):
    models = [
        model for model in entries(ROOT / 'configs' / folder)
        if name in model['Name']
    ]
    assert models
    for model in models:
        assert [result['Task'] for result in model['Results']] == tasks


@pytest.mark.parametrize('folder', FOLDERS, ids=lambda folder: folder.name)
def test_flops_are_those_of_the_plain_network(folder):
    # So the tables, whose pages say it, show them once.
    for model in entries(folder):
        flops, plain = (
            model['Metadata'][key] for key in ('FLOPs', 'Plain FLOPs'))
        assert plain <= flops < 1.001 * plain, model['Name']


def test_the_index_imports_every_metafile():
    index = yaml.safe_load((ROOT / 'model-index.yml').read_text())['Import']
    assert index == [
        f'configs/{folder.name}/metafile.yml' for folder in FOLDERS
    ]


def test_every_config_has_a_state_dict_that_is_held():
    assert sorted(STATES) == sorted(path.stem for path in CONFIGS)


def test_a_state_dict_that_has_changed_is_not_written():
    tool = load_tool('misc/update_zoo')
    model = make_kin()
    old = dict(one=tool.state_of(model))
    tool.check_states(old, dict(one=tool.state_of(make_kin()), other={}))
    for changed in (model.double(), make_kin(3), nn.Sequential()):
        with pytest.raises(CommandError, match='of one has other keys.* in 0'):
            tool.check_states(old, dict(one=tool.state_of(changed)))


def test_names_are_unique():
    files = defaultdict(list)
    for path in CONFIGS:
        files[path.stem].append(path)
    assert [paths for paths in files.values() if len(paths) > 1] == []


@pytest.mark.parametrize(
    'path', TABLES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_a_table_is_what_the_metafiles_say(path):
    tool = load_tool('misc/update_zoo')
    text = path.read_text()
    assert '<!-- zoo ' in text
    assert tool.fill_tables(path, tool.read_models()) == text


def test_all_configs_are_in_the_table():
    text = (ROOT / 'docs' / 'zoo.md').read_text()
    assert [path.stem for path in CONFIGS
            if f'[{path.stem}]' not in text] == []
