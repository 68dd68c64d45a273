"""MMRotate's models, over MMDetection's classes, share kernels as well."""
import pytest
import torch
from mmengine.config import Config
from mmengine.hub import get_config
from mmengine.registry import MODELS, DefaultScope

from mmkdna import sharing_table

pytest.importorskip('mmrotate')
# What its metrics need; without it, none of its modules is registered.
pytest.importorskip('faster_coco_eval')

# Stages of 3, 4, 6 and 3 bottlenecks: S S F, S F S F, S F S F S F, S S F.
RESNET50 = 2 + 2 + 3 + 2
NAMES = [
    'oriented_rcnn/oriented-rcnn-le90_r50_fpn_1x_dota',
    'roi_trans/roi-trans-le90_r50_fpn_1x_dota',
    'rotated_fcos/rotated-fcos-le90_r50_fpn_1x_dota',
    'rotated_retinanet/rotated-retinanet-rbox-le90_r50_fpn_1x_dota',
    's2anet/s2anet-le135_r50_fpn_1x_dota'
]


def build(cfg):
    with DefaultScope.overwrite_default_scope('mmrotate'):
        return MODELS.build(cfg)


@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('own', [False, True])
def test_stock_models(name, own):
    cfg = get_config(f'mmrotate::{name}.py').model
    cfg.backbone.init_cfg = None
    if own:
        cfg.backbone.type = 'KernelDNAResNet'
    else:
        cfg.backbone.conv_cfg = dict(type='KernelDNA')
    model = build(cfg)
    assert type(model.backbone).__name__ == cfg.backbone.type.split('.')[-1]
    stock = build(dict(type='mmdet.KernelDNAResNet', depth=50))
    expected = sharing_table(stock).children if own else RESNET50
    children = [
        row for row in sharing_table(model)
        if row.parent not in (None, row.name)
    ]
    assert len(children) == expected
    # The first stage is frozen.
    modules = dict(model.train().named_modules())
    features = model.extract_feat(torch.rand(1, 3, 64, 64))
    sum(out.square().sum() for out in features).backward()
    for row in children:
        parent = modules[row.parent].weight
        assert parent.requires_grad == (parent.grad is not None)
    assert any(modules[row.parent].weight.grad.any() for row in children
               if modules[row.parent].weight.requires_grad)


def test_backbones_in_its_scope():
    for name in ('KernelDNAResNet', 'KernelDNAMobileNetV2'):
        options = dict(depth=18) if name == 'KernelDNAResNet' else {}
        for cfg in (dict(type=name), dict(type=f'mmrotate.{name}')):
            model = build({**cfg, **options})
            assert type(model).__module__ == 'mmkdna.backbones.mmdet'
            assert sharing_table(model).children
    with pytest.raises(KeyError) as error:
        build(dict(type='KernelDNAConvNeXt'))
    assert "write type='mmpretrain.KernelDNAConvNeXt'" in error.value.args[0]


def test_a_base_of_its_configs(tmp_path):
    path = tmp_path / 'config.py'
    path.write_text(f'_base_ = "mmrotate::{NAMES[0]}.py"\n'
                    'model = dict(backbone=dict(type="KernelDNAResNet"))\n')
    cfg = Config.fromfile(path)
    assert cfg.default_scope == 'mmrotate'
    cfg.model.backbone.init_cfg = None
    assert sharing_table(build(cfg.model)).children
