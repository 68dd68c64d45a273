"""The tool that turns plain weights into those of a KernelDNA model."""
import json
import shutil
import sys

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdna.launch.model import init_model
from mmkdna.reconstruction import whole_model
from tests.runs import CONFIGS, load_tool, real_data, run_tool
from tests.test_tools.conftest import CLASSIFIER, make_classes
from tests.utils import children_of

TOOL = 'model_converters/plain_to_mmkdna'


@pytest.fixture
def folder(tmp_path):
    """A config, pictures, and a plain classifier in torchvision's keys."""
    text = CLASSIFIER.replace(
        'depth=18, base_channels=8',
        'depth=50, base_channels=4, conv_cfg=dict(type=\'KernelDNA\')')
    text = text.replace('in_channels=64', 'in_channels=128')
    (tmp_path / 'config.py').write_text(text)
    make_classes(tmp_path / 'data')
    model = init_model(plain_config(tmp_path))
    state_dict = {}
    for key, value in model.state_dict().items():
        key = key.replace('backbone.', '').replace('head.fc.', 'fc.')
        # This block is ours alone.
        if not key.startswith('layer3.6.'):
            state_dict[key] = value
    torch.save(state_dict, tmp_path / 'plain.pth')
    return tmp_path


def plain_config(folder):
    cfg = Config.fromfile(folder / 'config.py')
    cfg.model.backbone.sharing_stages = ()
    return cfg


def convert(monkeypatch, folder, *args):
    monkeypatch.chdir(folder)
    monkeypatch.setattr(sys, 'argv',
                        ['tool', 'config.py', 'plain.pth', 'out.pth', *args])
    load_tool(TOOL).main()
    return torch.load(folder / 'out.pth')['state_dict']


def test_as_a_user_runs_it(folder):
    said = run_tool(
        TOOL,
        'config.py',
        'plain.pth',
        'out.pth',
        '--precise-bn',
        '2',
        cwd=folder)
    assert 'layer3.1.conv2 from layer3.2.conv2 relative error' in said
    assert 'start as the identity: layer3.6' in said
    assert 'unexpected key' not in said
    said = run_tool(
        'test', 'config.py', 'out.pth', '--work-dir', 'work', cwd=folder)
    assert 'accuracy/top1' in said


def test_the_file_is_loaded_strictly(folder, monkeypatch):
    state_dict = convert(monkeypatch, folder)
    plain = torch.load(folder / 'plain.pth')
    model = init_model(str(folder / 'config.py'), str(folder / 'out.pth'))
    assert torch.equal(model.head.fc.weight, plain['fc.weight'])
    assert torch.equal(model.backbone.conv1.weight, plain['conv1.weight'])
    assert torch.equal(state_dict['backbone.layer3.2.conv2.weight'],
                       plain['layer3.2.conv2.weight'])
    assert not any(f'{name}.weight' in state_dict
                   for name in children_of(model))


def test_own_kernels_compute_what_the_plain_network_does(folder, monkeypatch):
    convert(monkeypatch, folder, '--cfg-options',
            'model.backbone.conv_cfg.share=False')
    cfg = Config.fromfile(folder / 'config.py')
    cfg.model.backbone.conv_cfg.share = False
    ours = init_model(cfg, str(folder / 'out.pth'))
    convert(monkeypatch, folder, '--cfg-options',
            'model.backbone.sharing_stages=()')
    theirs = init_model(plain_config(folder), str(folder / 'out.pth'))
    x = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(ours(x), theirs(x), rtol=1e-5, atol=1e-5)


def test_statistics_are_estimated_anew(folder, monkeypatch):
    before = convert(monkeypatch, folder)
    after = convert(monkeypatch, folder, '--precise-bn', '3')
    model = init_model(str(folder / 'config.py'))
    norms = {
        f'{name}.{key}'
        for name, m in model.named_modules() if isinstance(m, _BatchNorm)
        for key in ('running_mean', 'running_var', 'num_batches_tracked')
    }
    changed = {k for k in after if not torch.equal(after[k], before[k])}
    assert changed <= norms
    assert 'backbone.bn1.running_mean' in changed
    assert int(after['backbone.bn1.num_batches_tracked']) == 3
    # Pictures are normalised as in training.
    cfg = Config.fromfile(folder / 'config.py')
    assert model.data_preprocessor.mean.flatten().tolist() == \
        cfg.data_preprocessor.mean


RECONSTRUCT = ['--reconstruct', 'data', '--batch', '2', '--steps', '2']


def test_reconstruction(folder):
    plain = (folder / 'plain.pth').read_bytes()
    said = run_tool(
        TOOL, 'config.py', 'plain.pth', 'out.pth', *RECONSTRUCT, cwd=folder)
    assert 'of each part' in said and 'layer3.1.conv2' in said
    report = json.loads((folder / 'out.json').read_text())
    assert [part['name'] for part in report['parts']] == \
        ['backbone.layer3', 'backbone.layer4']
    assert report['error_after'] < report['error_before']
    assert 0 <= report['agreement'] <= 1
    state_dict = torch.load(folder / 'out.pth')['state_dict']
    assert not any('own_' in key for key in state_dict)
    # Without an option in the config.
    init_model(str(folder / 'config.py'), str(folder / 'out.pth'))
    assert (folder / 'plain.pth').read_bytes() == plain
    assert not list(folder.glob('*.unfinished'))


def test_reconstruction_of_what_does_not_share(folder, monkeypatch):
    option = ['--cfg-options', 'model.backbone.sharing_stages=()']
    expected = convert(monkeypatch, folder, *option)
    found = convert(monkeypatch, folder, *RECONSTRUCT, *option)
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_reconstruction_that_was_stopped_goes_on(folder, monkeypatch):
    expected = convert(monkeypatch, folder, *RECONSTRUCT)
    save = whole_model._save

    def save_and_stop(*args):
        save(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(whole_model, '_save', save_and_stop)
        (folder / 'out.pth').unlink()
        with pytest.raises(BaseException):
            convert(monkeypatch, folder, *RECONSTRUCT)
    assert not (folder / 'out.pth').exists()
    assert (folder / 'out.pth.unfinished').exists()
    monkeypatch.chdir(folder)
    found = convert(monkeypatch, folder, *RECONSTRUCT)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert not (folder / 'out.pth.unfinished').exists()


def test_reconstruction_is_kept_until_the_weights_are_written(
        folder, monkeypatch):
    arguments = [*RECONSTRUCT, '--precise-bn', '1']
    expected = convert(monkeypatch, folder, *arguments)
    (folder / 'out.pth').unlink()
    with monkeypatch.context() as patched:

        def stop(*_, **__):
            raise KeyboardInterrupt

        patched.setattr(Runner, 'build_dataloader', stop)
        with pytest.raises(BaseException):
            convert(monkeypatch, folder, *arguments)
    assert (folder / 'out.pth.unfinished').exists()
    monkeypatch.setattr(whole_model, '_fit', None)
    found = convert(monkeypatch, folder, *arguments)
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    assert not (folder / 'out.pth.unfinished').exists()


def test_pictures_that_fill_no_batch_are_left_out(folder, monkeypatch):
    sizes = []
    reconstruct = load_tool(TOOL).reconstruct

    def note(model, batches, *args, **kwargs):
        sizes.extend(map(len, batches))
        return reconstruct(model, batches, *args, **kwargs)

    monkeypatch.setattr('mmkdna.reconstruction.reconstruct', note)
    number = len(list((folder / 'data').rglob('*.png')))
    next((folder / 'data').rglob('*.png')).unlink()
    convert(monkeypatch, folder, *RECONSTRUCT)
    assert number % 2 == 0 and sizes == [2] * (number // 2 - 1)


def test_views_are_handed_on(folder, monkeypatch):
    one, two = (
        convert(monkeypatch, folder, *RECONSTRUCT, '--views', str(number))
        for number in (1, 2))
    assert any(not torch.equal(one[key], two[key]) for key in one)


def test_keys_of_a_module_in_parallel(folder, monkeypatch):
    expected = convert(monkeypatch, folder)
    plain = torch.load(folder / 'plain.pth')
    plain = {f'module.{key}': value for key, value in plain.items()}
    torch.save(dict(state_dict=plain), folder / 'plain.pth')
    state_dict = convert(monkeypatch, folder)
    assert set(state_dict) == set(expected)
    assert all(torch.equal(state_dict[key], expected[key]) for key in expected)


@pytest.fixture
def refused(folder, monkeypatch):
    """Run the tool, which ends with a message and changes nothing."""

    def content():
        return {
            path: path.read_bytes()
            for path in folder.iterdir() if path.is_file()
        }

    def refused(*args):
        before = content()
        monkeypatch.chdir(folder)
        monkeypatch.setattr(sys, 'argv', ['tool', *args])
        with pytest.raises(SystemExit) as stopped:
            load_tool(TOOL).main()
        assert content() == before
        return str(stopped.value.code)

    return refused


def test_a_damaged_file(folder, refused):
    data = (folder / 'plain.pth').read_bytes()
    (folder / 'plain.pth').write_bytes(data[:len(data) // 2])
    assert 'plain.pth cannot be read' in refused('config.py', 'plain.pth',
                                                 'out.pth')


def test_files_that_are_not_there(refused):
    message = refused('config.py', 'none.pth', 'out.pth')
    assert 'none.pth' in message and 'no such file' in message
    message = refused('none.py', 'plain.pth', 'out.pth')
    assert 'none.py is given as config' in message


def test_what_is_not_written_over(folder, refused):
    (folder / 'link.pth').symlink_to('plain.pth')
    for name in ('plain.pth', 'link.pth'):
        message = refused('config.py', 'plain.pth', name)
        assert f'{name} is given to write to' in message
        assert 'would replace plain.pth' in message
    assert 'is a folder' in refused('config.py', 'plain.pth', 'data')
    # The report, before the work.
    (folder / 'out.json').mkdir()
    message = refused('config.py', 'plain.pth', 'out.pth', *RECONSTRUCT)
    assert 'out.json is given to write to, but it is a folder' in message
    message = refused('config.py', 'plain.pth', 'new.json', *RECONSTRUCT)
    assert 'new.json' in message and 'where the report goes' in message


@pytest.mark.parametrize('options, said', [
    (['--reconstruct', 'none'], 'there is no such folder'),
    (['--reconstruct', 'empty'], 'there is none in it'),
    (['--reconstruct', 'data', '--batch', '9'], '3 or more'),
    ([*RECONSTRUCT, '--steps', '0'], 'steps=0'),
    ([*RECONSTRUCT, '--views', '0'], 'views=0'),
    (['--reconstruct', 'data', '--batch', '0'], '--batch 0'),
    (['--reconstruct', 'broken', '--batch', '2'], 'cannot be read as a pic'),
])
def test_what_cannot_be_reconstructed(options, said, folder, refused):
    (folder / 'empty').mkdir()
    shutil.copytree(folder / 'data', folder / 'broken')
    next((folder / 'broken').rglob('*.png')).write_bytes(b'no picture')
    assert said in refused('config.py', 'plain.pth', 'out.pth', *options)


def test_pictures_on_which_nothing_is_a_number(folder, refused):
    state_dict = torch.load(folder / 'plain.pth')
    # Weights themselves are looked at when they are read.
    state_dict['conv1.weight'].fill_(3e38)
    torch.save(state_dict, folder / 'plain.pth')
    message = refused('config.py', 'plain.pth', 'out.pth', *RECONSTRUCT)
    assert 'output of the plain network' in message and 'no finite' in message


def test_keys_with_module_and_without(folder, refused):
    state_dict = torch.load(folder / 'plain.pth')
    state_dict['module.conv1.weight'] = state_dict['conv1.weight']
    torch.save(state_dict, folder / 'plain.pth')
    message = refused('config.py', 'plain.pth', 'out.pth')
    assert 'conv1.weight is there with and without' in message


@pytest.mark.parametrize(
    'backbone',
    [
        # All of its own, and of the kind, with some kernels in common.
        dict(type='MobileNetV2', widen_factor=0.25),
        dict(type='ResNet', depth=18, base_channels=4),
    ])
def test_weights_of_another_network(backbone, folder, refused):
    model = MODELS.build(dict(backbone, type=f'mmpretrain.{backbone["type"]}'))
    torch.save(model.state_dict(), folder / 'plain.pth')
    message = refused('config.py', 'plain.pth', 'out.pth')
    assert 'plain.pth is given' in message and 'config.py' in message
    assert 'kernels of the backbone' in message
    assert 'Nothing is written' in message


@pytest.mark.parametrize(
    'missing, taken',
    [
        ('layer2.1.conv1.weight', False),
        # Adapters, norms and the head have what they start with.
        ('layer4.1.conv2.weight', True),
        ('layer2.1.bn1.weight', True),
        ('fc.weight', True),
    ])
def test_a_single_missing_weight(missing, taken, folder, monkeypatch, refused):
    assert children_of(init_model(str(folder / 'config.py')))
    state_dict = torch.load(folder / 'plain.pth')
    del state_dict[missing]
    torch.save(state_dict, folder / 'plain.pth')
    if taken:
        convert(monkeypatch, folder)
    else:
        message = refused('config.py', 'plain.pth', 'out.pth')
        assert ': 1 of the ' in message and message.count(missing) == 1


def test_a_child_without_the_kernel_it_is_fitted_with(folder, refused):
    state_dict = torch.load(folder / 'plain.pth')
    del state_dict['layer4.1.conv2.weight']
    torch.save(state_dict, folder / 'plain.pth')
    message = refused('config.py', 'plain.pth', 'out.pth', *RECONSTRUCT)
    assert ': 1 of the ' in message and 'layer4.1.conv2.weight' in message


DETECTOR = f'''
_base_ = '{CONFIGS}/released/retinanet_r18-half-plain_fpn_12e_shapes.py'
model = dict(%s=dict(conv_cfg=dict(_delete_=True, type='KernelDNA')))
'''


@pytest.fixture(scope='module')
def plain_detector():
    """Weights of the whole plain network."""
    return init_model(
        Config.fromfile(CONFIGS /
                        'released/retinanet_r18-half-plain_fpn_12e_shapes.py')
    ).state_dict()


@pytest.mark.hosts('mmdet')
@pytest.mark.parametrize(
    'sharing, missing, reconstruct, said',
    [
        # All of it is there, or all of what is needed.
        ('bbox_head', (), False, None),
        ('backbone', ('neck', 'bbox_head'), False, None),
        ('bbox_head', ('neck', ), False, None),
        # What shares is as good as random.
        ('bbox_head', ('neck', 'bbox_head'), False, 'bbox_head.cls_convs.1'),
        ('bbox_head', ('bbox_head.reg_convs.3', ), False,
         ': bbox_head.reg_convs.3.conv.weight. Nothing'),
        ('neck', ('neck', 'bbox_head'), False, 'neck.lateral_convs.0'),
        # It would be fitted to what the random neck leads to.
        ('bbox_head', ('neck', ), True, ': neck.lateral_convs.0'),
        ('neck', ('bbox_head', ), True, ': bbox_head.cls_convs.0'),
    ])
def test_what_shares_needs_its_kernels(sharing, missing, reconstruct, said,
                                       plain_detector, folder, monkeypatch,
                                       refused):
    (folder / 'config.py').write_text(DETECTOR % sharing)
    weights = {
        key: value
        for key, value in plain_detector.items()
        if not key.startswith(tuple(f'{part}.' for part in missing))
    }
    # A head of another network.
    weights['decode_head.conv_seg.weight'] = torch.zeros(4, 8, 1, 1)
    torch.save(dict(state_dict=weights), folder / 'plain.pth')
    options = [*RECONSTRUCT, '--size', '32', '32'] if reconstruct else []
    if said is None:
        convert(monkeypatch, folder, *options)
        return
    message = refused('config.py', 'plain.pth', 'out.pth', *options)
    assert 'the weights of the whole plain network of config.py' in message
    assert said in message


def test_a_key_nobody_has_is_named(folder, monkeypatch):
    state_dict = torch.load(folder / 'plain.pth')
    state_dict['head.other.weight'] = torch.ones(2)
    state_dict['layer9.weight'] = torch.ones(2)
    torch.save(state_dict, folder / 'plain.pth')
    said = run_tool(TOOL, 'config.py', 'plain.pth', 'out.pth', cwd=folder)
    unused = said.split('unexpected key in source state_dict: ')[1]
    unused = unused.split('\n')[0].split(', ')
    assert sorted(unused) == ['backbone.layer9.weight', 'head.other.weight']


@pytest.mark.parametrize('options, right', [
    (['model.backbone.sharing_stages=()'], True),
    (['model.backbone.conv_cfg.share=False'], True),
    ([], False),
])
def test_real_weights_on_a_few_real_pictures(options, right, tmp_path,
                                             monkeypatch):
    """The plain network knows most of them, the sharing one none yet."""
    config = str(CONFIGS / 'mobilenet_v2' / 'kdna-mobilenet-v2_imagenet250.py')
    weights = real_data('weights') / 'mobilenet_v2_imagenet_torchvision.pth'
    arguments = ['--cfg-options', *options] if options else []
    monkeypatch.setattr(
        sys, 'argv',
        ['tool', config,
         str(weights),
         str(tmp_path / 'out.pth'), *arguments])
    load_tool(TOOL).main()
    cfg = Config.fromfile(config)
    for option in options:
        key, value = option.split('=')
        cfg.merge_from_dict({key: () if value == '()' else False})
    model = init_model(cfg, str(tmp_path / 'out.pth'))
    loader = Runner.build_dataloader(cfg.test_dataloader, seed=0)
    batch = next(iter(loader))
    samples = model.val_step(batch)
    hits = sum(int(s.pred_label) == int(s.gt_label) for s in samples)
    assert (hits >= 15) == right and len(samples) == 25
