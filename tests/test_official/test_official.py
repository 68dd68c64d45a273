"""Conversion between the authors' checkpoints and ours.

The authors' keys, weights and answers lie in the folder ``official`` beside
that which the environment variable MMKDNA_DATA names. Without it the weights
are random ones and what needs the folder is skipped.
"""
import importlib.util
import json
import os
import shutil
import zipfile
from collections import OrderedDict
from functools import lru_cache
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from mmengine.config import Config
from mmengine.registry import init_default_scope
from mmengine.runner import load_checkpoint

from mmkdna.official import mmkdna_to_official, networks, official_to_mmkdna
from tests.runs import CONFIGS, ROOT, TOOLS, run_tool
from tests.test_official.official_reference import logits

NAMES = ('resnet18', 'resnet50', 'mobilenet_v2', 'mobilenet_v2_1d2')
NETWORKS = {network.name: network for network in networks()}
TOOL = 'model_converters/official_to_mmkdna'
every_network = pytest.mark.parametrize('name', NAMES)
# The functions, and the state dict of a network that each of them takes.
both_ways = pytest.mark.parametrize('convert', [
    official_to_mmkdna,
    mmkdna_to_official,
])


@pytest.fixture(autouse=True)
def one_thread():
    # A depthwise convolution in float64 is 70 times slower with two.
    torch.set_num_threads(1)


@pytest.fixture(autouse=True)
def remove_files(tmp_path):
    # Together these would be gigabytes, of which pytest keeps three sets.
    yield
    shutil.rmtree(tmp_path)


def official_folder():
    root = os.environ.get('MMKDNA_DATA')
    return root and Path(root).resolve().parent / 'official'


@lru_cache(maxsize=None)
def recipe():
    """The module that makes reproducible weights, None without the folder."""
    folder = official_folder()
    if not folder or not (folder / 'seeded_state_dict.py').is_file():
        return None
    spec = importlib.util.spec_from_file_location(
        'seeded_state_dict', folder / 'seeded_state_dict.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def need_recipe():
    if recipe() is None:
        pytest.skip('there is no folder official with seeded_state_dict.py '
                    'beside that which MMKDNA_DATA names')
    return recipe()


@lru_cache(maxsize=None)
def _official(name):
    if recipe() is not None:
        return recipe().seeded_state_dict(name)
    generator = torch.Generator().manual_seed(0)
    state_dict = {}
    for key, shape in NETWORKS[name].shapes('official').items():
        value = torch.randn(shape, generator=generator)
        if key.endswith('num_batches_tracked'):
            value = torch.tensor(1)
        elif key.endswith('running_var'):
            value = value.abs() / 2 + 0.5
        elif 'static_' in key:
            value = value * 0.3
        elif len(shape) > 1:
            value = value * (2 / value[0].numel())**0.5
        elif key.endswith('.weight'):
            value = 1 + value / 10
        else:
            value = value / 10
        state_dict[key] = value
    return state_dict


@lru_cache(maxsize=None)
def _mmkdna(name):
    return official_to_mmkdna(_official(name))


def official(name):
    """A state dict of the authors', which a test may change."""
    return dict(_official(name))


def given_to(convert, name):
    """What a function converts."""
    if convert is official_to_mmkdna:
        return official(name)
    return dict(_mmkdna(name))


def images():
    generator = torch.Generator().manual_seed(0)
    return torch.randn(2, 3, 64, 64, dtype=torch.float64, generator=generator)


def training_checkpoint(name):
    """As the authors' training script saves it."""
    return dict(
        epoch=90,
        arch=name,
        state_dict={
            f'module.{k}': v
            for k, v in official(name).items()
        },
        best_acc1=71.25,
        optimizer=dict(
            state={0: dict(momentum_buffer=torch.ones(3))},
            param_groups=[dict(lr=0.1, params=[0])]),
        scheduler=dict(last_epoch=90, _last_lr=[0.0]))


def build_classifier(name):
    init_default_scope('mmpretrain')
    from mmpretrain.registry import MODELS
    return MODELS.build(Config.fromfile(ROOT / NETWORKS[name].config).model)


def bits(tensor):
    return tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes()


def backbone_of(state_dict):
    """The keys of the backbone, as it has them itself."""
    return {
        key[len('backbone.'):]: value
        for key, value in state_dict.items() if key.startswith('backbone.')
    }


def assert_equal(state_dict, expected):
    assert set(state_dict) == set(expected)
    for key, value in expected.items():
        assert bits(state_dict[key]) == bits(value), key


def assert_same_function(name, state_dict, model):
    """Ours against the reference, in float64."""
    x = images()
    with torch.no_grad():
        value = model.double().eval()(x, mode='tensor')
    expected = logits(name, state_dict, x)
    assert (value - expected).norm() <= 1e-10 * expected.norm()


def tool():
    """The converter as a module."""
    spec = importlib.util.spec_from_file_location('converter',
                                                  TOOLS / f'{TOOL}.py')
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def files(folder):
    return sorted(path.name for path in folder.rglob('*'))


# ---- the tables


@every_network
def test_their_keys_and_shapes_are_those_published(name):
    need_recipe()
    listing = json.loads((official_folder() / f'{name}.keys.json').read_text())
    assert NETWORKS[name].shapes('official') == {
        key: tuple(shape)
        for key, shape in listing
    }


@every_network
def test_our_keys_and_shapes_are_those_of_the_config(name):
    state_dict = build_classifier(name).state_dict()
    assert NETWORKS[name].shapes('mmkdna') == {
        key: tuple(value.shape)
        for key, value in state_dict.items()
    }


def test_the_configs_named_are_those_of_the_paper():
    for network in networks():
        assert (ROOT / network.config).is_file()


# ---- what the converted networks compute


def test_resnet18_answers_what_the_authors_does():
    module = need_recipe()
    answers = json.loads(
        (official_folder() / 'resnet18.logits.json').read_text())
    expected = torch.tensor(answers['logits_float64'], dtype=torch.float64)
    state_dict = module.seeded_state_dict('resnet18')
    model = build_classifier('resnet18')
    model.load_state_dict(official_to_mmkdna(state_dict), strict=True)
    x = module.seeded_input()
    with torch.no_grad():
        value = model.double().eval()(x, mode='tensor')
    assert (value - expected).norm() <= 1e-10 * expected.norm()
    # With it the reference, by which the other networks are judged, stands.
    reference = logits('resnet18', state_dict, x)
    assert (reference - expected).norm() <= 1e-10 * expected.norm()


@every_network
def test_a_converted_file_is_loaded_strictly_and_answers_as_theirs(
        name, tmp_path):
    torch.save(training_checkpoint(name), tmp_path / 'theirs.pth')
    tool().convert(str(tmp_path / 'theirs.pth'), str(tmp_path / 'ours.pth'))
    model = build_classifier(name)
    load_checkpoint(model, str(tmp_path / 'ours.pth'), strict=True)
    assert_same_function(name, official(name), model)


@every_network
def test_every_tensor_of_the_authors_counts(name):
    """Else the comparison would say nothing of a tensor that is swapped."""
    state_dict = official(name)
    expected = logits(name, state_dict, images())
    unused = []
    for key, value in state_dict.items():
        if 'static_' in key:
            for row in range(len(value)):
                changed = value.clone()
                changed[row] += 0.5
                other = logits(name, {**state_dict, key: changed}, images())
                if torch.allclose(other, expected, rtol=1e-6):
                    unused.append((key, row))
    assert not unused


# ---- both ways


@every_network
def test_round_trip_to_the_bit(name):
    state_dict = official(name)
    for i, (key, value) in enumerate(state_dict.items()):
        if key.endswith('num_batches_tracked'):
            state_dict[key] = torch.tensor(10**12 + i)
        elif i % 7 == 0:
            state_dict[key] = value.clone()
            state_dict[key].view(-1)[0] = float('nan')
        elif i % 7 == 1:
            state_dict[key] = -value * 0
    ours = official_to_mmkdna(state_dict)
    assert_equal(mmkdna_to_official(ours), state_dict)
    assert_equal(official_to_mmkdna(mmkdna_to_official(ours)), ours)


@pytest.mark.parametrize('dtype', [torch.float16, torch.float64])
def test_round_trip_keeps_the_type(dtype):
    state_dict = {k: v.to(dtype) for k, v in official('resnet18').items()}
    ours = official_to_mmkdna(state_dict)
    assert {value.dtype for value in ours.values()} == {dtype}
    assert_equal(mmkdna_to_official(ours), state_dict)


@both_ways
def test_results_share_no_memory_with_what_was_given(convert):
    state_dict = given_to(convert, 'resnet18')
    state_dict = {k: v.clone() for k, v in state_dict.items()}
    converted = convert(state_dict)
    expected = {k: v.clone() for k, v in converted.items()}
    for value in state_dict.values():
        value.zero_()
    assert_equal(converted, expected)


def test_keys_may_start_with_module():
    state_dict = official('mobilenet_v2')
    with_module = {f'module.{k}': v for k, v in state_dict.items()}
    assert_equal(
        official_to_mmkdna(with_module), official_to_mmkdna(state_dict))


def test_a_trained_model_of_ours_goes_the_way_back():
    model = build_classifier('mobilenet_v2_1d2')
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            parameter.add_(noise / 20)
    theirs = mmkdna_to_official(model.state_dict())
    assert_same_function('mobilenet_v2_1d2', theirs, model)


# ---- prefix


@pytest.mark.parametrize('prefix, start', [
    ('backbone.', 'backbone.'),
    ('backbone', 'backbone.'),
    ('model.encoder.', 'model.encoder.'),
])
@every_network
def test_prefix_is_that_of_the_backbone(name, prefix, start):
    ours = official_to_mmkdna(official(name), prefix)
    expected = {
        key.replace('backbone.', start, 1): value
        for key, value in _mmkdna(name).items()
    }
    assert_equal(ours, expected)
    assert_equal(mmkdna_to_official(ours, prefix), official(name))


def test_empty_prefix_is_the_backbone_alone():
    ours = official_to_mmkdna(official('resnet18'), '')
    model = build_classifier('resnet18')
    model.backbone.load_state_dict(ours, strict=True)
    with pytest.raises(ValueError, match='head.fc.weight'):
        mmkdna_to_official(ours, '')


def test_a_prefix_that_is_not_there_is_asked_for():
    with pytest.raises(ValueError, match='prefix') as error:
        mmkdna_to_official(_mmkdna('resnet18'), 'encoder.')
    assert 'encoder.' in str(error.value)


# ---- faults


def cut(state_dict, key):
    del state_dict[key]
    return [key]


def rename(state_dict, key):
    state_dict[f'{key}_'] = state_dict.pop(key)
    return [key, f'{key}_']


def surplus(state_dict, key):
    state_dict[f'{key}.more'] = state_dict[key]
    return [f'{key}.more']


def reshape(state_dict, key):
    value = state_dict[key]
    state_dict[key] = value[None]
    return [key, str(tuple(value.shape)), str((1, *value.shape))]


def shorten(state_dict, key):
    value = state_dict[key]
    if not value.dim():
        return reshape(state_dict, key)
    state_dict[key] = value[:-1]
    return [
        key,
        str(tuple(value.shape)),
        str((len(value) - 1, *value.shape[1:]))
    ]


def not_a_tensor(state_dict, key):
    state_dict[key] = 'text'
    return [key, 'str']


@both_ways
@every_network
@settings(max_examples=25)
@given(
    data=st.data(),
    fault=st.sampled_from(
        [cut, rename, surplus, reshape, shorten, not_a_tensor]))
def test_a_fault_in_any_key_is_named(convert, name, data, fault):
    state_dict = given_to(convert, name)
    key = data.draw(st.sampled_from(sorted(state_dict)))
    named = fault(state_dict, key)
    with pytest.raises(ValueError) as error:
        convert(state_dict)
    message = str(error.value)
    assert f' {name},' in message
    for text in named:
        assert text in message


@both_ways
@pytest.mark.parametrize('fault',
                         [cut, rename, surplus, reshape, not_a_tensor])
def test_several_faults_are_named_together(convert, fault):
    state_dict = given_to(convert, 'resnet50')
    named = sum(
        (fault(state_dict, key) for key in list(state_dict)[10:300:30]), [])
    with pytest.raises(ValueError) as error:
        convert(state_dict)
    assert all(text in str(error.value) for text in named)


def test_all_faults_at_once():
    state_dict = official('resnet18')
    named = (
        cut(state_dict, 'bn1.bias') + rename(state_dict, 'fc.bias') +
        reshape(state_dict, 'layer3.se.1.se.fc1.weight') +
        surplus(state_dict, 'layer4.bns.2.weight'))
    with pytest.raises(ValueError) as error:
        official_to_mmkdna(state_dict)
    assert all(text in str(error.value) for text in named)


def test_many_faults_do_not_flood():
    state_dict = {f'more.{i}': torch.ones(1) for i in range(5000)}
    state_dict.update(official('resnet18'))
    with pytest.raises(ValueError, match='and 4980 more') as error:
        official_to_mmkdna(state_dict)
    assert len(str(error.value)) < 2000


def test_one_width_is_not_taken_for_the_other():
    state_dict = official('mobilenet_v2_1d2')
    wide = official('mobilenet_v2')
    for key in list(state_dict)[:100]:
        state_dict[key] = wide[key]
    with pytest.raises(ValueError, match='mobilenet_v2_1d2, .*features.0.0'):
        official_to_mmkdna(state_dict)


@pytest.mark.parametrize('state_dict', [
    {},
    {
        'a.weight': torch.ones(3)
    },
    {
        'layer3.static_filter_attn': torch.ones(3, 256, 1, 1, 1)
    },
])
@both_ways
def test_an_unknown_network_says_what_was_looked_for(convert, state_dict):
    with pytest.raises(ValueError) as error:
        convert(state_dict)
    if convert is official_to_mmkdna or not state_dict:
        assert all(name in str(error.value) for name in NAMES)


def test_another_depth_is_unknown():
    """A network of the authors' kind which they have not published."""
    state_dict = {
        key.replace('layer', 'stage'): value
        for key, value in official('resnet50').items()
    }
    with pytest.raises(ValueError, match='none of the networks resnet18, '):
        official_to_mmkdna(state_dict)


@pytest.mark.parametrize('arch', ['resnet18', 'resnet50', 'mobilenet_v2'])
@pytest.mark.parametrize('prefix', ['', 'module.'])
@both_ways
def test_a_plain_network_is_sent_to_init_cfg(convert, arch, prefix):
    models = pytest.importorskip('torchvision.models')
    state_dict = getattr(models, arch)(weights=None).state_dict()
    state_dict = {prefix + key: value for key, value in state_dict.items()}
    with pytest.raises(ValueError, match='ordinary pretrained network') as e:
        convert(state_dict)
    assert 'init_cfg=dict(type=\'Pretrained\'' in str(e.value)


def test_a_plain_network_of_a_host_library_is_sent_to_init_cfg():
    state_dict = {
        key: value
        for key, value in _mmkdna('mobilenet_v2').items()
        if '.adapter.' not in key
    }
    for key in list(state_dict):
        if key.startswith(('backbone.layer3', 'backbone.layer4',
                           'backbone.layer5', 'backbone.layer6')):
            del state_dict[key]
    for convert in (official_to_mmkdna, mmkdna_to_official):
        with pytest.raises(ValueError, match='ordinary pretrained network'):
            convert(state_dict)


@every_network
def test_the_wrong_direction_is_told(name):
    with pytest.raises(ValueError, match='--reverse goes the other way'):
        official_to_mmkdna(_mmkdna(name))
    with pytest.raises(ValueError, match='without --reverse'):
        mmkdna_to_official(official(name))


def test_a_key_with_and_without_module():
    state_dict = official('resnet18')
    state_dict['module.fc.bias'] = state_dict['fc.bias']
    with pytest.raises(ValueError, match='fc.bias is there with and without'):
        official_to_mmkdna(state_dict)


# ---- the tool


def test_the_tool_there_and_back(tmp_path):
    theirs = training_checkpoint('resnet18')
    torch.save(theirs, tmp_path / 'theirs.pth')
    said = run_tool(TOOL, 'theirs.pth', 'new/ours.pth', cwd=tmp_path)
    for text in ('resnet18, configs/resnet/kdna-resnet18_8xb32_in1k.py',
                 'layer3.se.2.se  backbone.layer3.2.conv1',
                 'optimizer, scheduler', 'new/ours.pth'):
        assert text in said
    ours = torch.load(tmp_path / 'new/ours.pth', weights_only=True)
    assert set(ours) == {'meta', 'state_dict'}
    assert_equal(ours['state_dict'], _mmkdna('resnet18'))
    run_tool(TOOL, 'new/ours.pth', 'back.pth', '--reverse', cwd=tmp_path)
    back = torch.load(tmp_path / 'back.pth', weights_only=True)
    assert set(back) == {'epoch', 'arch', 'state_dict', 'best_acc1'}
    assert_equal(back.pop('state_dict'), theirs['state_dict'])
    assert back == dict(epoch=90, arch='resnet18', best_acc1=71.25)
    assert files(tmp_path) == ['back.pth', 'new', 'ours.pth', 'theirs.pth']


@pytest.mark.parametrize('module', ['', 'module.'])
@pytest.mark.parametrize('envelope', [None, {}, dict(epoch=3, best_acc1=1.)])
@pytest.mark.parametrize('container', [dict, OrderedDict])
def test_every_form_comes_back_as_it_was(tmp_path, module, envelope,
                                         container):
    state_dict = container(
        (module + key, value) for key, value in official('resnet18').items())
    theirs = state_dict
    if envelope is not None:
        theirs = dict(envelope, state_dict=state_dict)
    paths = [str(tmp_path / name) for name in 'abc']
    torch.save(theirs, paths[0])
    tool().convert(paths[0], paths[1])
    ours = torch.load(paths[1], weights_only=True)
    assert_equal(ours['state_dict'], _mmkdna('resnet18'))
    tool().convert(paths[1], paths[2], reverse=True)
    back = torch.load(paths[2], weights_only=True)
    if envelope is not None:
        assert set(back) == set(theirs)
        assert {k: back[k] for k in envelope} == envelope
        back = back['state_dict']
    assert_equal(back, state_dict)


def test_the_way_back_of_a_runners_checkpoint(tmp_path):
    """It is a bare state dict: nothing is known of the authors' form."""
    torch.save(
        dict(
            meta=dict(epoch=1, cfg='model = 1'),
            state_dict=_mmkdna('mobilenet_v2'),
            optimizer=dict(state={})), tmp_path / 'epoch_1.pth')
    said = tool().convert(
        str(tmp_path / 'epoch_1.pth'),
        str(tmp_path / 'theirs.pth'),
        reverse=True)
    assert 'optimizer' in said
    back = torch.load(tmp_path / 'theirs.pth', weights_only=True)
    assert_equal(back, official('mobilenet_v2'))


def test_prefix_of_the_tool(tmp_path):
    theirs, ours, back = (str(tmp_path / name) for name in 'abc')
    torch.save(official('resnet18'), theirs)
    tool().convert(theirs, ours, prefix='encoder.')
    keys = torch.load(ours, weights_only=True)['state_dict']
    assert 'encoder.layer3.0.conv2.adapter.filter' in keys
    tool().convert(ours, back, prefix='encoder.', reverse=True)
    assert_equal(torch.load(back, weights_only=True), official('resnet18'))
    said = tool().convert(theirs, ours, prefix='')
    assert 'left out: the classifier' in said
    keys = torch.load(ours, weights_only=True)['state_dict']
    assert 'layer3.0.conv2.adapter.filter' in keys
    assert not any(key.startswith('head.') for key in keys)


def test_an_existing_file_is_replaced_only_by_a_whole_one(tmp_path):
    theirs, ours = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    torch.save(official('resnet18'), theirs)
    ours.write_text('old')
    state_dict = official('resnet18')
    del state_dict['fc.bias']
    torch.save(state_dict, tmp_path / 'cut.pth')
    with pytest.raises(ValueError, match='fc.bias'):
        tool().convert(str(tmp_path / 'cut.pth'), str(ours))
    assert ours.read_text() == 'old'
    tool().convert(str(theirs), str(ours))
    content = ours.read_bytes()
    with pytest.raises(ValueError, match='would replace .*theirs.pth'):
        tool().convert(str(theirs), str(theirs))
    with pytest.raises(ValueError, match='is a folder'):
        tool().convert(str(theirs), str(tmp_path))
    tool().convert(str(theirs), str(ours))
    # The same every time, so that its hash can be in its name.
    assert ours.read_bytes() == content
    assert files(tmp_path) == ['cut.pth', 'ours.pth', 'theirs.pth']


def test_a_disk_that_is_full_leaves_nothing_behind(tmp_path, monkeypatch):

    def save(checkpoint, file):
        file.write(b'half of it')
        raise OSError('No space left on device')

    theirs, ours = tmp_path / 'theirs.pth', tmp_path / 'ours.pth'
    torch.save(official('resnet18'), theirs)
    ours.write_text('old')
    monkeypatch.setattr(torch, 'save', save)
    with pytest.raises(OSError, match='No space left'):
        tool().convert(str(theirs), str(ours))
    assert files(tmp_path) == ['ours.pth', 'theirs.pth']
    assert ours.read_text() == 'old'


class Unsafe:
    """Pickled, a call of open()."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return open, (self.path, 'w')


def unsafe_file(path):
    checkpoint = training_checkpoint('resnet18')
    checkpoint['args'] = Unsafe(str(path.parent / 'was_run'))
    torch.save(checkpoint, path)
    return 'open', 'run any code'


def unsafe_file_of_old_torch(path):
    checkpoint = dict(
        state_dict=official('resnet18'),
        args=Unsafe(str(path.parent / 'was_run')))
    torch.save(checkpoint, path, _use_new_zipfile_serialization=False)
    return 'open', 'run any code'


def truncated_file(path):
    torch.save(training_checkpoint('resnet18'), path)
    content = path.read_bytes()
    path.write_bytes(content[:len(content) // 2])
    return 'truncated',


def cut_key(path):
    checkpoint = training_checkpoint('resnet18')
    del checkpoint['state_dict']['module.layer4.se.1.se.fc2.bias']
    torch.save(checkpoint, path)
    return 'layer4.se.1.se.fc2.bias', 'missing', '(512,)'


def no_weights(path):
    torch.save(dict(epoch=1, arch='resnet18'), path)
    return 'epoch, arch', 'state dict'


def weights_in_a_list(path):
    torch.save(dict(state_dict=[1, 2]), path)
    return 'state_dict', 'is expected'


def page(path):
    path.write_text('<html>not found</html>')
    return 'no checkpoint',


def archive(path):
    with zipfile.ZipFile(path, 'w') as file:
        file.writestr('folder/data', 'text')
    return 'theirs.pth',


def missing_file(path):
    return 'no such file',


@pytest.mark.parametrize('make', [
    unsafe_file, unsafe_file_of_old_torch, truncated_file, cut_key, no_weights,
    weights_in_a_list, page, archive, missing_file
])
def test_an_error_names_the_fault_and_leaves_no_file(make, tmp_path, capsys,
                                                     monkeypatch):
    texts = make(tmp_path / 'theirs.pth')
    before = files(tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr('sys.argv', [TOOL, 'theirs.pth', 'new/ours.pth'])
    with pytest.raises(SystemExit) as error:
        tool().main()
    for text in texts:
        assert text in str(error.value)
    assert 'Nothing is written' in str(error.value)
    assert files(tmp_path) == before
    assert capsys.readouterr().out == ''


@pytest.mark.parametrize('make', [unsafe_file, cut_key])
def test_an_error_ends_the_process(make, tmp_path):
    texts = make(tmp_path / 'theirs.pth')
    said = run_tool(TOOL, 'theirs.pth', 'ours.pth', cwd=tmp_path, fails=True)
    for text in (*texts, 'Nothing is written'):
        assert text in said
    assert 'Traceback' not in said
    assert files(tmp_path) == ['theirs.pth']


# ---- in detectors and segmentors


@pytest.mark.parametrize('config, name', [
    ('retinanet/retinanet_r18-kdna_fpn_1x_coco.py', 'resnet18'),
    ('faster_rcnn/faster-rcnn_r50-kdna_fpn_1x_coco.py', 'resnet50'),
    ('fcn/fcn_r18-kdna-d8_4xb4-80k_ade20k-512x512.py', 'resnet18'),
    ('upernet/upernet_r50-kdna_4xb4-80k_ade20k-512x512.py', 'resnet50'),
])
def test_a_host_librarys_model_loads_the_backbone(config, name, tmp_path):
    path = str(tmp_path / 'ours.pth')
    torch.save(official(name), tmp_path / 'theirs.pth')
    tool().convert(str(tmp_path / 'theirs.pth'), path)
    cfg = Config.fromfile(CONFIGS / config)
    pytest.importorskip(cfg.default_scope)
    init_default_scope(cfg.default_scope)
    from mmengine.registry import MODELS
    cfg.model.backbone.init_cfg = dict(
        type='Pretrained', checkpoint=path, prefix='backbone.')
    # mmseg's own base is a ResNetV1c, but the paper's stem is the common one.
    cfg.model.backbone.pop('deep_stem', None)
    # The neck and heads are of no account here, and slow to initialise.
    backbone = MODELS.build(cfg.model.backbone)
    backbone.init_weights()
    assert_equal(backbone.state_dict(), backbone_of(_mmkdna(name)))


@pytest.mark.parametrize('library', ['mmdet', 'mmseg'])
@pytest.mark.parametrize('name, width', [('mobilenet_v2', 1.0),
                                         ('mobilenet_v2_1d2', 0.5)])
def test_a_host_librarys_mobilenet_v2_loads_the_backbone(
        library, name, width, tmp_path):
    path = str(tmp_path / 'ours.pth')
    torch.save(official(name), tmp_path / 'theirs.pth')
    tool().convert(str(tmp_path / 'theirs.pth'), path)
    pytest.importorskip(library)
    init_default_scope(library)
    from mmengine.registry import MODELS
    backbone = MODELS.build(
        dict(
            type='KernelDNAMobileNetV2',
            widen_factor=width,
            init_cfg=dict(
                type='Pretrained', checkpoint=path, prefix='backbone.')))
    backbone.init_weights()
    state_dict = backbone.state_dict()
    if library == 'mmdet':
        state_dict = _as_mmpretrain_names(state_dict)
    expected = backbone_of(_mmkdna(name))
    if library == 'mmseg':
        # Its networks end before the last 1x1 convolution.
        expected = {
            key: value
            for key, value in expected.items() if not key.startswith('conv2.')
        }
    assert_equal(state_dict, expected)


def _as_mmpretrain_names(state_dict):
    names = ('expand_conv', 'depthwise_conv', 'linear_conv')
    renamed = {}
    for key, value in state_dict.items():
        for place, name in enumerate(names):
            # The block that does not expand starts with the depthwise one.
            place -= key.startswith('layer1.')
            key = key.replace(f'.{name}.', f'.conv.{place}.')
        renamed[key] = value
    return renamed


@pytest.mark.parametrize('prefix', ['backbone.', ''])
def test_a_whole_detector_loads_the_backbone(prefix, tmp_path):
    path = str(tmp_path / 'ours.pth')
    torch.save(training_checkpoint('resnet18'), tmp_path / 'theirs.pth')
    tool().convert(str(tmp_path / 'theirs.pth'), path, prefix=prefix)
    cfg = Config.fromfile(CONFIGS /
                          'retinanet/retinanet_r18-kdna_fpn_1x_coco.py')
    pytest.importorskip('mmdet')
    init_default_scope('mmdet')
    from mmdet.registry import MODELS
    cfg.model.backbone.init_cfg = dict(type='Pretrained', checkpoint=path)
    if prefix:
        cfg.model.backbone.init_cfg.prefix = prefix
    model = MODELS.build(cfg.model)
    model.init_weights()
    assert_equal(model.backbone.state_dict(), backbone_of(_mmkdna('resnet18')))
