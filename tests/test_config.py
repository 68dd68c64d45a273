"""Configs over those of a host library."""
from pathlib import Path

import pytest
from mmengine.config import Config, utils

from mmkdna import config

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
    monkeypatch.setattr(config, 'is_installed', lambda name: there)
    config.find_mmseg_configs()
    assert utils.MODULE2PACKAGE['mmseg'] == expected


def test_without_mmseg_nothing_changes(monkeypatch):
    monkeypatch.setitem(utils.MODULE2PACKAGE, 'mmseg', 'mmsegmentation')
    monkeypatch.setattr(config, 'is_installed', lambda name: False)
    monkeypatch.setattr(config, 'find_spec', lambda name: None)
    config.find_mmseg_configs()
    assert utils.MODULE2PACKAGE['mmseg'] == 'mmsegmentation'
