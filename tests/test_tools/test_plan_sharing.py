"""plan_sharing.py, as a user runs it."""
import json
import math
import re
from pathlib import Path

import pytest
import torch
from mmengine.config import Config

import mmkdna
from mmkdna.launch.model import build_model
from mmkdna.planning.sharing_copy import sharing_copy
from tests.runs import CONFIGS, load_tool, logged, run_tool
from tests.test_tools.conftest import CLASSIFIER, make_classes

TOOL = 'analysis_tools/plan_sharing'
ONE_STAGE = '''type='ResNet', depth=18, base_channels=8, stem_channels=8,
        num_stages=1, strides=(1, ), dilations=(1, ), out_indices=(0, )),'''
# With shares so near to the most that every unit takes part.
RELEASED = {
    'mmdet': ('retinanet_r18-half-plain_fpn_12e_shapes', '0.53'),
    'mmseg': ('fpn_r18-half-narrow-plain_1xb16-350_shapes-128x128', '0.57')
}


@pytest.fixture
def network(tmp_path, monkeypatch):
    """The current folder, with a plain network, its weights and pictures."""
    text = CLASSIFIER.replace(
        'type=\'KernelDNAResNet\', depth=18, base_channels=8, '
        'stem_channels=8),', ONE_STAGE).replace('in_channels=64',
                                                'in_channels=8')
    (tmp_path / 'tiny.py').write_text(text)
    monkeypatch.chdir(tmp_path)
    torch.manual_seed(0)
    torch.save(
        build_model(Config.fromfile('tiny.py')).state_dict(), 'tiny.pth')
    make_classes(tmp_path / 'data')
    return tmp_path


def plan(monkeypatch, *options):
    """Run the tool in this process, which has imported the hosts."""
    monkeypatch.setattr('sys.argv', [
        TOOL, 'tiny.py', 'tiny.pth', '--images=data', '--batch=4', '--size',
        '32', '32', '--steps=1', *options
    ])
    load_tool(TOOL).main()


def test_a_plan_is_written_and_trains(network, monkeypatch, capsys):
    plan(monkeypatch, '--save=0.3', '--out=deep/plan.py', '--json=all.json')
    said = capsys.readouterr().out
    found = json.loads(Path('all.json').read_text())
    assert found['num_pictures'] == dict(fitted=5, choosing=1, kept=2)
    assert len(found['links']) == 12 and len(found['curve']) == 3
    assert found['left_out'] == []
    assert Path('deep/plan.svg').read_text().startswith('<?xml')
    best = found['plan'][-1]
    assert best['saved'] >= 0.3 * found['parameters'] > found['plan'][-2][
        'saved']
    for link in found['links']:
        assert link['noise']['error'] > 0
    for child, parent in best['links'].items():
        assert f'| {child} | {parent} | 515 |' in said
    # The whole curve is there, and what each step adds.
    before = {}
    for number, step in enumerate(found['curve'], 1):
        child, = set(step['links']) - set(before)
        before = step['links']
        one, = (
            link for link in found['links']
            if (link['child'], link['parent']) == (child, before[child]))
        share = step['saved'] / found['parameters']
        assert (
            f'| {number} | {child} | {before[child]} | {step["saved"]:,} '
            f'| {share:.1%} | {one["part_error"]:.3g} '
            f'| {one["output"]["error"]:.3g} | {step["damage"]:.3g} |') in said
    assert '| links | saved | of all | sum of single ones | at once |' in said
    assert all(0 < step['measured']['refitted']['error'] < math.inf
               for step in found['plan'])
    # The config shares so, and no otherwise.
    cfg = Config.fromfile('deep/plan.py')
    assert {
        row.name: row.parent
        for row in mmkdna.sharing_table(build_model(cfg)) if row.parent
    } == best['links']
    assert len(Path('deep/plan.py').read_text().splitlines()) <= 15
    said = run_tool('train', 'deep/plan.py', '--work-dir=run', cwd=network)
    assert 'Load checkpoint from tiny.pth' in said
    assert 'relative error' in said
    losses = logged('run')
    assert len(losses) == 4 and all(map(math.isfinite, losses.values()))
    # The same again is the same.
    plan(monkeypatch, '--save=0.3', '--json=again.json', '--picture=a.png')
    assert Path('a.png').exists() and not Path('plan.svg').exists()
    assert json.loads(Path('again.json').read_text()) == found


def spoil(monkeypatch, chosen):
    """Have links leave no numbers if their parent has a name like that."""

    def spoiled(plain, links, seed):
        model = sharing_copy(plain, links, seed)
        for unit, pairs in links.items():
            for link in pairs:
                if re.search(chosen, link.parent):
                    conv = model.get_submodule(f'{unit}.{link.child}')
                    next(conv.adapter.parameters()).data.fill_(math.nan)
        return model

    monkeypatch.setattr('mmkdna.planning.damage.sharing_copy', spoiled)


@pytest.mark.parametrize('steps', [0, 1])
def test_links_that_leave_no_numbers_are_left_out(steps, network, monkeypatch,
                                                  capsys):
    spoil(monkeypatch, 'layer1.1.conv2')
    plan(monkeypatch, '--save=0.3', f'--steps={steps}', '--json=all.json')
    said = capsys.readouterr().out
    assert 'number, and are left out: backbone.layer1.0.conv1 from' in said
    assert 'backbone.layer1.1.conv1 from backbone.layer1.1.conv2' in said
    assert 'nan' not in said
    text = Path('all.json').read_text()
    found = json.loads(text)
    assert 'NaN' not in text
    assert len(found['links']) == 9 and len(found['left_out']) == 3
    assert {one['parent']
            for one in found['left_out']} == {'backbone.layer1.1.conv2'}
    assert 'backbone.layer1.1.conv2' not in found['plan'][-1]['links'].values()


def test_too_few_links_leave_numbers(network, monkeypatch):
    spoil(monkeypatch, 'conv[12]')
    with pytest.raises(SystemExit) as stopped:
        plan(monkeypatch, '--save=0.1')
    assert ('--save 0.1 is given, but the links that are left save 0.000'
            in stopped.value.code)
    assert not Path('plan.py').exists()


@pytest.mark.parametrize('options, error', [
    (['--save=0'], '--save 0.0 is given, a number between 0 and 1'),
    (['--save=1'], '--save 1.0 is given, a number between 0 and 1'),
    (['--save=0.9'], 'links of kin save 0.444 of the 3,480 parameters'),
    (['--save=.1', '--steps=-1'], '--steps -1 and --size [32, 32] are given'),
    (['--save=.1', '--batch=0'], '--batch 0, --steps 1'),
    (['--save=.1', '--out=a.txt'], 'a name that ends in .py is expected'),
    (['--save=.1', '--out=tiny.py'], 'this would replace tiny.py'),
    (['--save=.1', '--picture=a.txt'], 'a name that ends with one of .svg'),
    (['--save=.1', '--images=none'], 'there is no such folder'),
    (['--save=.1', '--images=data/dark'], 'has 4 pictures, 8 or more'),
])
def test_what_cannot_be_is_refused(network, refuse, options, error):
    assert error in refuse(TOOL, 'tiny.py', 'tiny.pth', '--images=data',
                           '--size', '32', '32', '--steps=1', *options)


def test_what_is_broken_is_refused(network, refuse):
    given = ('tiny.py', 'tiny.pth', '--images=data', '--save=.1', '--size',
             '32', '32')
    broken = Path('data/dark/dark1.png')
    broken.write_bytes(b'none')
    assert f'{broken} cannot be read as a picture' in refuse(TOOL, *given)
    weights = torch.load('tiny.pth')
    # Weights themselves are looked at when they are read.
    weights['backbone.conv1.weight'].fill_(3e38)
    torch.save(weights, 'tiny.pth')
    make_classes(network / 'whole')
    assert 'no finite numbers' in refuse(TOOL, *given, '--images=whole')


def test_pictures_of_a_size_it_cannot_take_are_refused(network, refuse):
    text = Path('tiny.py').read_text()
    # The linear layer reads rows, which are as long as it expects by chance.
    Path('rows.py').write_text(
        text.replace('dict(type=\'GlobalAveragePooling\')', 'None'))
    assert 'does not run on pictures of (64, 64), see --size' in refuse(
        TOOL, 'rows.py', 'tiny.pth', '--images=data', '--save=.1', '--size',
        '64', '64')


def test_weights_of_another_network_are_refused(network, monkeypatch):
    weights = torch.load('tiny.pth')
    weights.pop('backbone.conv1.weight')
    torch.save(weights, 'tiny.pth')
    with pytest.raises(SystemExit) as stopped:
        plan(monkeypatch, '--save=.1')
    assert ('tiny.pth is given, the checkpoint of a model of tiny.py is '
            'expected') in stopped.value.code
    assert not Path('plan.py').exists()


def test_a_network_without_kin_is_refused(network, refuse):
    """Nothing in it takes conv_cfg."""
    text = Path('tiny.py').read_text().replace(
        ONE_STAGE, 'type=\'TinyViT\', arch=\'5m\'),')
    Path('none.py').write_text(
        text.replace('in_channels=8', 'in_channels=320'))
    torch.save(
        build_model(Config.fromfile('none.py')).state_dict(), 'none.pth')
    assert 'none has kin' in refuse(TOOL, 'none.py', 'none.pth',
                                    '--images=data', '--save=.1', '--size',
                                    '32', '32')


@pytest.mark.slow
@pytest.mark.parametrize('host', RELEASED)
def test_a_plan_of_a_released_network_trains(host, tmp_path):
    name, save = RELEASED[host]
    load_tool('dataset_converters/make_shapes').make_shapes(
        tmp_path / 'data' / 'shapes', num_train=8, num_val=8, size=64)
    said = run_tool(
        TOOL,
        CONFIGS / 'released' / f'{name}.py',
        f'mmkdna://{name}',
        '--images=data/shapes/images/validation',
        '--save',
        save,
        '--size',
        '64',
        '64',
        '--steps=1',
        cwd=tmp_path)
    assert '| links | saved |' in said
    units = dict(
        mmdet=('backbone', 'neck', 'bbox_head'), mmseg=('backbone', 'neck'))
    cfg = Config.fromfile(tmp_path / 'plan.py')
    for unit in units[host]:
        assert cfg.model[unit].conv_cfg.links
    run_tool(
        'train',
        'plan.py',
        '--cfg-options',
        *('train_cfg.max_epochs=1'
          if host == 'mmdet' else 'train_cfg.max_iters=2', ),
        'train_dataloader.num_workers=0',
        'train_dataloader.persistent_workers=False',
        'train_dataloader.batch_size=4',
        'train_cfg.val_interval=100',
        'default_hooks.logger.interval=1',
        cwd=tmp_path)
    losses = logged(tmp_path / 'work_dirs' / 'plan')
    assert losses and all(map(math.isfinite, losses.values()))
