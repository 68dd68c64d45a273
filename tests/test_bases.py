"""Configs over those of a host library, and over ours."""
from pathlib import Path

import pytest
from mmengine.config import Config, utils
from mmengine.hub import get_config
from mmengine.registry import DATASETS, DefaultScope

from mmkdna import bases, sharing_table

BASE = Path(__file__).parents[1] / 'configs' / '_base_' / 'mmkdna.py'
STOCK = {
    'mmdet': 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
    'mmseg': 'upernet/upernet_r50_4xb4-80k_ade20k-512x512.py',
    'mmpretrain': 'resnet/resnet50_8xb32_in1k.py'
}


@pytest.mark.parametrize('host', list(STOCK))
def test_a_config_inherits_from_a_host_librarys(host, tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = [{str(BASE)!r}, "{host}::{STOCK[host]}"]\n'
                    'model = dict(backbone=dict('
                    'conv_cfg=dict(type="KernelDNA")))\n')
    cfg = Config.fromfile(path)
    assert cfg.model.backbone.conv_cfg.type == 'KernelDNA'
    assert cfg.model.backbone.depth == 50
    assert cfg.default_scope == host
    assert cfg.custom_imports.imports == ['mmkdna']


@pytest.mark.parametrize('distribution, there, expected', [
    ('mmsegmentation', True, 'mmsegmentation'),
    ('mmsegmentation', False, 'mmseg'),
])
def test_mmseg_is_found_by_whatever_name_it_has(monkeypatch, distribution,
                                                there, expected):
    monkeypatch.setitem(utils.MODULE2PACKAGE, 'mmseg', distribution)
    monkeypatch.setattr(bases, 'is_installed', lambda name: there)
    bases.find_mmseg_configs()
    assert utils.MODULE2PACKAGE['mmseg'] == expected


def test_without_mmseg_nothing_changes(monkeypatch):
    monkeypatch.setitem(utils.MODULE2PACKAGE, 'mmseg', 'mmsegmentation')
    monkeypatch.setattr(bases, 'is_installed', lambda name: False)
    monkeypatch.setattr(bases, 'find_spec', lambda name: None)
    bases.find_mmseg_configs()
    assert utils.MODULE2PACKAGE['mmseg'] == 'mmsegmentation'


OURS = 'mmkdna::shapes/retinanet_r18-half-kdna-conv_fpn_12e_shapes.py'


def test_a_config_inherits_from_ours(tmp_path):
    pytest.importorskip('mmdet')
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {OURS!r}\n'
                    'pipeline = {{_base_.train_pipeline}}\n'
                    'train_dataloader = dict(dataset=dict('
                    'lazy_init=True, pipeline=pipeline))\n')
    cfg = Config.fromfile(path)
    assert cfg.model.backbone.conv_cfg.type == 'KernelDNA'
    # A dataset of the host library's, with its own transforms.
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        dataset = DATASETS.build(cfg.train_dataloader.dataset)
    assert type(dataset).__module__.startswith('mmdet')
    packing = dataset.pipeline.transforms[-1]
    assert type(packing).__module__.startswith('mmdet')


@pytest.mark.parametrize('host, name', [
    ('mmdet', OURS),
    ('mmseg', 'mmkdna::shapes/fpn_r18-half-kdna_1xb16-700_shapes-128x128.py'),
    ('mmpretrain', 'mmkdna::resnet/kdna-resnet18_8xb32_in1k.py'),
])
def test_our_configs_are_found_by_name(host, name):
    pytest.importorskip(host)
    cfg = get_config(name)
    path = BASE.parents[1] / name.partition('::')[2]
    assert Path(cfg.filename).resolve() == path
    if host == 'mmdet':
        from mmdet.apis import init_detector as init
    elif host == 'mmseg':
        from mmseg.apis import init_model as init
    else:
        from mmpretrain import get_model as init
    model = init(
        cfg, None, device='cpu') if host != 'mmpretrain' else init(cfg)
    assert sharing_table(model).children > 0


@pytest.mark.parametrize('base, said', [
    ('mmdet::faster_rcnn/none.py', ['mmdet', 'installed has no', 'version']),
    ('mmkdna::shapes/none.py', ['mmkdna', 'installed has no', 'version']),
    ('mmfoo::some/one.py', ['mmfoo', 'mmpretrain, mmrotate or mmkdna']),
])
def test_a_base_that_is_not_there(base, said, tmp_path):
    pytest.importorskip('mmdet')
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = {base!r}')
    with pytest.raises(bases.MissingBaseError) as raised:
        Config.fromfile(path)
    for part in [f"{path} has _base_ = '{base}'", *said]:
        assert part in str(raised.value)
