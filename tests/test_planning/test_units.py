"""Units that may share, and the config of a plan."""
import re

import pytest
import torch
from mmengine.config import Config
from mmengine.runner import load_state_dict

import mmkdna
from mmkdna.launch.model import build_model
from mmkdna.planning import (PlannedUnit, find_candidates, find_units,
                             plan_text, unlinked_config)
from mmkdna.planning.units import TOO_MANY
from tests.runs import CONFIGS
from tests.test_planning.networks import classifier

DETECTOR = CONFIGS / '_base_/models/retinanet_r18-half_fpn_shapes.py'
SEGMENTOR = CONFIGS / '_base_/models/fpn_r18-half_shapes.py'
RELEASED = CONFIGS / 'released'
PLAIN = {
    'mmpretrain': RELEASED / 'resnet18-16ch-plain_1xb64-6e_cifar10.py',
    'mmdet': RELEASED / 'retinanet_r18-half-plain_fpn_12e_shapes.py',
    'mmseg': RELEASED / 'fpn_r18-half-narrow-plain_1xb16-350_shapes-128x128.py'
}
OURS = '''
_base_ = '%s/_base_/mmkdna.py'
default_scope = 'mmpretrain'
model = dict(type='ImageClassifier', backbone=dict(%s))
'''
BACKBONES = {
    'resnet':
    'type="KernelDNAResNet", depth=18, base_channels=8, '
    'stem_channels=8, conv_cfg=dict(type="KernelDNA", rd_ratio=0.5)',
    'bottlenecks':
    'type="KernelDNAResNet", depth=50, base_channels=4, '
    'stem_channels=8, sharing_stages=()',
    'mobilenet':
    'type="KernelDNAMobileNetV2", widen_factor=0.5',
    'convnext':
    'type="KernelDNAConvNeXt", arch=dict('
    'depths=[1, 1, 3, 1], channels=[8, 8, 16, 16])',
    'conv_cfg':
    'type="ResNet", depth=18, base_channels=8, stem_channels=8, '
    'conv_cfg=dict(type="KernelDNA", stage_level=0)',
}


def names(cfg):
    return [unit.name for unit in find_units(cfg)]


def test_units_of_each_host():
    for host, expected in (('mmpretrain', ['backbone']),
                           ('mmdet', ['backbone', 'neck', 'bbox_head']),
                           ('mmseg', ['backbone', 'neck', 'decode_head'])):
        assert names(Config.fromfile(PLAIN[host])) == expected
    roi = Config.fromfile(
        str(CONFIGS / 'faster_rcnn/faster-rcnn_r50-kdna_fpn_1x_coco.py'))
    assert names(roi) == ['backbone', 'neck', 'roi_head.bbox_head']


def test_other_conv_types_are_left_alone():
    backbone = dict(type='ResNet', depth=18)
    assert names(classifier(backbone, type='ConvWS')) == []
    assert names(classifier(backbone, type='Conv2d')) == ['backbone']
    assert names(classifier(dict(backbone, dcn=dict(type='DCN')))) == []
    assert names(classifier(dict(type='VisionTransformer'))) == []


def planned(file, folder):
    """A plan of two links of each unit, its config and its plain network."""
    cfg = Config.fromfile(file)
    units = find_units(cfg)
    with pytest.warns(UserWarning, match='none shares'):
        plain = build_model(unlinked_config(cfg, units))
    links = {}
    for one in find_candidates(plain, [unit.name for unit in units]):
        pairs = links.setdefault(one.unit, {})
        parents = set(pairs.values())
        if (len(pairs) < 2 and not {one.child, one.parent} & set(pairs)
                and one.child not in parents):
            pairs[one.child] = one.parent
    text = plan_text(str(file), ['mmkdna'], 'weights.pth', units, links, 'Two')
    (folder / 'plan.py').write_text(text)
    return Config.fromfile(folder / 'plan.py'), plain, links


def check(cfg, plain, links):
    """A config builds exactly the links, and takes the plain weights."""
    model = build_model(cfg)
    made = {
        row.name: row.parent
        for row in mmkdna.sharing_table(model) if row.parent
    }
    assert made == {
        f'{unit}.{child}': f'{unit}.{parent}'
        for unit, pairs in links.items()
        for child, parent in pairs.items()
    }
    assert cfg.load_from == 'weights.pth'
    load_state_dict(model, plain.state_dict(), strict=True)
    parent = next(iter(made.values()))
    assert torch.equal(
        model.get_submodule(parent).weight,
        plain.get_submodule(parent).weight)
    return model


@pytest.mark.parametrize('host', PLAIN)
def test_a_plan_links_what_it_says(host, tmp_path):
    cfg, plain, links = planned(PLAIN[host], tmp_path)
    assert list(links) == names(cfg)[:len(links)]
    check(cfg, plain, links)
    comment, _, *lines = (tmp_path / 'plan.py').read_text().splitlines()
    assert comment == '# Two' and max(map(len, lines)) < 80


# As many as there can be in the detector: to one parent each, and in pairs.
FAMILIES = dict(
    backbone={
        'layer1.0.conv1': 'layer1.1.conv2',
        'layer1.0.conv2': 'layer1.1.conv2',
        'layer1.1.conv1': 'layer1.1.conv2',
        'layer2.0.conv2': 'layer2.1.conv2',
        'layer2.1.conv1': 'layer2.1.conv2',
        'layer3.0.conv2': 'layer3.1.conv2',
        'layer3.1.conv1': 'layer3.1.conv2',
        'layer4.1.conv2': 'layer4.0.conv2',
        'layer4.1.conv1': 'layer4.0.conv2'
    },
    neck={
        'fpn_convs.0.conv': 'fpn_convs.2.conv',
        'fpn_convs.1.conv': 'fpn_convs.2.conv'
    },
    bbox_head={
        f'{kind}_convs.{i}.conv': f'{kind}_convs.3.conv'
        for kind in ('cls', 'reg')
        for i in range(3)
    })
PAIRS = dict(
    backbone={
        'layer1.0.conv1': 'layer1.0.conv2',
        'layer1.1.conv1': 'layer1.1.conv2',
        'layer2.0.conv2': 'layer2.1.conv1',
        'layer3.0.conv2': 'layer3.1.conv1',
        'layer4.0.conv2': 'layer4.1.conv1'
    },
    neck={'fpn_convs.0.conv': 'fpn_convs.1.conv'},
    bbox_head={
        f'{kind}_convs.{i}.conv': f'{kind}_convs.{i + 1}.conv'
        for kind in ('cls', 'reg')
        for i in (0, 2)
    })

# What was planned for a MobileNetV2 and its detector, all parents one's own.
OWN_PARENTS = dict(
    backbone={
        f'layer{i}.1.{step}.conv': f'layer{i}.2.{step}.conv'
        for i in (3, 4, 5, 6)
        for step in ('expand_conv', 'linear_conv')
    },
    neck={'fpn_convs.0.conv': 'fpn_convs.1.conv'},
    bbox_head={
        f'{kind}_convs.0.conv': f'{kind}_convs.1.conv'
        for kind in ('cls', 'reg')
    })


@pytest.mark.parametrize('file, links', [
    (PLAIN['mmdet'], FAMILIES),
    (PLAIN['mmdet'], PAIRS),
    (CONFIGS / 'comparison/bccd-pretrained/plain.py', OWN_PARENTS),
])
def test_a_plan_has_fifteen_lines_at_most(file, links, tmp_path):
    base = Config.fromfile(file)
    units = find_units(base)
    imports = base.get('custom_imports', {}).get('imports', [])
    text = plan_text(
        str(file), imports, 'weights.pth', units, links,
        'Saves 30.0% of the parameters of convolutions.')
    (tmp_path / 'plan.py').write_text(text)
    comment, _, *lines = text.splitlines()
    assert 1 + 1 + len(lines) <= 15 and max(map(len, lines)) < 80
    with pytest.warns(UserWarning, match='none shares'):
        plain = build_model(unlinked_config(base, units))
    check(Config.fromfile(tmp_path / 'plan.py'), plain, links)


def test_units_inside_a_unit_have_lines_of_their_own():
    names = 'roi_head.bbox_head', 'roi_head.mask_head'
    units = [PlannedUnit(name, True, {}, {}, {}) for name in names]
    links = {'convs.0.conv': 'convs.2.conv', 'convs.1.conv': 'convs.3.conv'}
    text = plan_text('base.py', ['mmkdna'], 'a.pth', units,
                     dict.fromkeys(names, links), '')
    assert max(map(len, text.splitlines())) < 80
    roi_head = Config.fromstring(
        text.replace("_base_ = 'base.py'", ''), '.py').model.roi_head
    assert list(roi_head) == ['bbox_head', 'mask_head']
    assert all(head.conv_cfg.links == links for head in roi_head.values())


@pytest.mark.parametrize('children', [
    ['a.1', 'a.1.b', 'b.1'],
    ['layer1.0', 'layer1.1.0'],
    ['a.b.conv', 'a.b.c.conv', 'a.b.conv.conv'],
    ['x.a-b.c', 'x.a+b.c'],
    [f'layer3.{i}.conv{j}' for i in range(6) for j in (1, 2)],
])
def test_a_pattern_matches_the_children_and_nothing_else(children):
    unit = PlannedUnit('neck', False, {}, {}, {})
    text = plan_text('base.py', ['mmkdna'], 'a.pth', [unit],
                     dict(neck=dict.fromkeys(children, 'parent')), '')
    assert max(map(len, text.splitlines())) < 80
    (pattern, parent), = Config.fromstring(
        text.replace("_base_ = 'base.py'", ''),
        '.py').model.neck.conv_cfg.links.items()
    assert parent == 'parent'
    others = [name.replace('.', 'x') for name in children]
    others += [f'{name}x' for name in children]
    others += [f'x{name}' for name in children]
    others += [name.rpartition('.')[0] for name in children]
    found = [
        name for name in {*children, *others} if re.fullmatch(pattern, name)
    ]
    assert sorted(found) == sorted(children)


@pytest.mark.parametrize('backbone', BACKBONES)
def test_a_plan_over_one_of_ours(backbone, tmp_path):
    file = tmp_path / 'ours.py'
    file.write_text(OURS % (CONFIGS, BACKBONES[backbone]))
    cfg, plain, links = planned(file, tmp_path)
    model = check(cfg, plain, links)
    child = next(iter(links['backbone']))
    rd_ratio = model.backbone.get_submodule(child).options.rd_ratio
    assert rd_ratio == (0.5 if backbone == 'resnet' else 0.25)


def test_the_plain_network_has_no_links_yet():
    cfg = classifier(rd_ratio=0.5, type='KernelDNA', keep_own_kernel=True)
    units = find_units(cfg)
    assert units[0].adapter == dict(rd_ratio=0.5, keep_own_kernel=True)
    conv_cfg = unlinked_config(cfg, units).model.backbone.conv_cfg
    assert conv_cfg == dict(
        type='KernelDNA', rd_ratio=0.5, min_channels=TOO_MANY)


def test_what_a_config_imports_is_imported(tmp_path):
    text = plan_text('base.py', ['theirs'], 'a.pth', [], {}, '')
    assert "imports=['theirs', 'mmkdna']" in text
    # What the base imports is inherited.
    text = plan_text('base.py', ['theirs', 'mmkdna'], 'a.pth', [], {}, '')
    assert 'imports' not in text
