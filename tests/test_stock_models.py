"""Stock models with nothing but ``conv_cfg``, as a user sets it."""
import copy
import pickle
from importlib import import_module
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import DefaultScope

from mmkdna import sharing_table
from tests.utils import children_of, kernel_dna, make_images

CONV = dict(type='KernelDNA')
SHRINK = 8
WIDTHS = ('in_channels', 'out_channels', 'feat_channels', 'channels',
          'conv_out_channels', 'fc_out_channels', 'c1_in_channels',
          'c1_channels', 'mid_channels')
# Stages of 3, 4, 6 and 3 bottlenecks: S S F, S F S F, S F S F S F, S S F.
RESNET50 = 2 + 2 + 3 + 2
# 3x3 kin of HRNet-w18, whose layer1 takes no conv_cfg: two branches of 8; in
# four modules three branches of 8 and six convs that fuse, of which one has
# the shape of the first branch; in three modules four branches and so on.
HRNET = (4 + 4) + (18 + 16 + 16 + 3 * 2) + (17 + 14 + 12 + 12 + 6 * 2)
# Pointwise kin: in layer3, 5, 6 two expansions and two projections, in
# layer4 three.
MOBILENET_V2 = 3 * (1 + 1) + (2 + 2)

# Name: host, config, where conv_cfg is set, children of each of these.
MODELS = dict(
    faster_rcnn=('mmdet', 'faster_rcnn/faster-rcnn_r50_fpn_1x_coco.py',
                 dict(backbone=RESNET50, neck=2)),
    mask_rcnn=('mmdet', 'mask_rcnn/mask-rcnn_r50_fpn_1x_coco.py', {
        'backbone': RESNET50,
        'neck': 2,
        'roi_head.mask_head': 2
    }),
    # Of the neck's five convs the first extra one is wider.
    retinanet=('mmdet', 'retinanet/retinanet_r50_fpn_1x_coco.py',
               dict(backbone=RESNET50, neck=2, bbox_head=2 + 2)),
    atss=('mmdet', 'atss/atss_r50_fpn_1x_coco.py',
          dict(backbone=RESNET50, neck=3, bbox_head=2 + 2)),
    cascade_rcnn=('mmdet', 'cascade_rcnn/cascade-rcnn_r50_fpn_1x_coco.py', {
        'backbone': RESNET50,
        'neck': 2,
        'roi_head.bbox_head.0': 2,
        'roi_head.bbox_head.1': 2,
        'roi_head.bbox_head.2': 2
    }),
    upernet=('mmseg', 'upernet/upernet_r50_4xb4-80k_ade20k-512x512.py',
             dict(backbone=RESNET50, decode_head=2, auxiliary_head=0)),
    pspnet=('mmseg', 'pspnet/pspnet_r50-d8_4xb4-80k_ade20k-512x512.py',
            dict(backbone=RESNET50, decode_head=0, auxiliary_head=0)),
    deeplabv3plus=(
        'mmseg',
        'deeplabv3plus/deeplabv3plus_r50-d8_4xb4-80k_ade20k-512x512.py',
        dict(backbone=RESNET50, decode_head=0, auxiliary_head=0)),
    # The head's first convs of four levels, and three behind them.
    sem_fpn=('mmseg', 'sem_fpn/fpn_r50_4xb4-160k_ade20k-512x512.py',
             dict(backbone=RESNET50, neck=2, decode_head=2 + 2)),
    resnet=('mmpretrain', 'resnet/resnet50_8xb32_in1k.py',
            dict(backbone=RESNET50)),
    resnext=('mmpretrain', 'resnext/resnext50-32x4d_8xb32_in1k.py',
             dict(backbone=0)),
    mobilenet_v2=('mmpretrain', 'mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
                  dict(backbone=0)),
    mobilenet_v2_pointwise=('mmpretrain',
                            'mobilenet_v2/mobilenet-v2_8xb32_in1k.py',
                            dict(backbone=MOBILENET_V2)),
    hrnet=('mmpretrain', 'hrnet/hrnet-w18_4xb32_in1k.py',
           dict(backbone=HRNET)),
)


def shrink(cfg):
    """Fewer channels, no weights from the web, one process."""
    for key, value in list(cfg.items()):
        values = value if isinstance(value, (list, tuple)) else [value]
        if key == 'pretrained' or (key == 'init_cfg' and value
                                   and value.get('type') == 'Pretrained'):
            cfg.pop(key)
        elif key in WIDTHS and all(v % SHRINK == 0 for v in values):
            less = [v // SHRINK for v in values]
            cfg[key] = less if values is value else less[0]
        elif key == 'norm_cfg' and value['type'] == 'SyncBN':
            value['type'] = 'BN'
        elif key == 'norm_cfg' and value['type'] == 'GN':
            value['num_groups'] //= SHRINK
        else:
            for part in values:
                if isinstance(part, dict):
                    shrink(part)


def load_cfg(name):
    host, path, _ = MODELS[name]
    configs = Path(import_module(host).__file__).parent / '.mim' / 'configs'
    return Config.fromfile(configs / path).model


def get_cfg(name):
    host, _, children = MODELS[name]
    cfg = load_cfg(name)
    if 'ResNe' in cfg.backbone.type and name != 'resnext':
        cfg.backbone.base_channels = cfg.backbone.stem_channels = 64 // SHRINK
        # A residual branch that starts at 0 has no gradient.
        cfg.backbone.zero_init_residual = False
    if host != 'mmpretrain' or name == 'resnet':
        shrink(cfg)
    if host == 'mmseg':
        cfg.data_preprocessor.size = (64, 64)
        # These heads pool to 1x1, where a stock batch norm of theirs has
        # no statistics of one image either.
        cfg.decode_head.norm_cfg = dict(type='GN', num_groups=2)
    if name == 'atss':  # whose own default is a group norm of 32 groups
        cfg.bbox_head.norm_cfg = dict(type='GN', num_groups=4)
    if name == 'cascade_rcnn':
        for head in cfg.roi_head.bbox_head:
            head.update(type='Shared4Conv1FCBBoxHead', conv_out_channels=32)
    for where in children:
        part = cfg
        for key in where.split('.'):
            part = part[int(key) if key.isdigit() else key]
        part.conv_cfg = dict(CONV)
    if name == 'mobilenet_v2_pointwise':
        cfg.backbone.conv_cfg.kernel_sizes = (1, )
    return cfg


def tensors(outputs):
    """All tensors in nested sequences."""
    if isinstance(outputs, torch.Tensor):
        return [outputs]
    if isinstance(outputs, (list, tuple)):
        return [tensor for part in outputs for tensor in tensors(part)]
    return []


@pytest.fixture(scope='module', params=list(MODELS))
def name(request):
    pytest.importorskip(MODELS[request.param][0])
    return request.param


@pytest.fixture(scope='module')
def model(name):
    torch.manual_seed(0)
    host = MODELS[name][0]
    with DefaultScope.overwrite_default_scope(host):
        registry = import_module(f'{host}.registry').MODELS
        model = registry.build(get_cfg(name))
    model.init_weights()
    return model


def test_each_unit_shares_within_itself(name, model):
    units = MODELS[name][2]
    for unit, children in units.items():
        module = model.get_submodule(unit)
        inside = set(module.modules())
        found = children_of(module)
        assert len(found) == children, unit
        for conv in found.values():
            assert conv.parent in inside
    assert sharing_table(model).children == sum(units.values())
    grouped = [c for c in kernel_dna(model).values() if c.groups > 1]
    assert {conv.role for conv in grouped} <= {'plain'}
    assert len(grouped) == dict(
        resnext=16, mobilenet_v2=17, mobilenet_v2_pointwise=17).get(name, 0)


def test_one_image_trains(name, model):
    model.train()
    model.zero_grad()
    data = model.data_preprocessor(make_images(MODELS[name][0]), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert loss.isfinite()
    loss.backward()
    for child in children_of(model).values():
        for key, parameter in child.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad.isfinite().all(), key
        assert child.parent.weight.requires_grad == \
            child.adapter.filter.requires_grad
    for key, conv in kernel_dna(model.backbone).items():
        if conv.role == 'parent' and conv.weight.requires_grad:
            assert conv.weight.grad.abs().sum() > 0, key


def test_one_image_is_predicted(name, model):
    model.eval()
    with torch.no_grad():
        sample, = model.test_step(make_images(MODELS[name][0]))
    predicted = dict(
        mmdet='pred_instances', mmseg='pred_sem_seg', mmpretrain='pred_score')
    assert predicted[MODELS[name][0]] in sample


@pytest.mark.parametrize('duplicate', [
    copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))
], ids=['deepcopy', 'pickle'])  # yapf: disable
def test_a_copy_shares_within_itself(name, model, duplicate):
    model.eval()
    twin = duplicate(model)
    inside = set(twin.modules())
    links = {n: c.parent_name for n, c in children_of(model).items()}
    assert links == {n: c.parent_name for n, c in children_of(twin).items()}
    for child in children_of(twin).values():
        assert child.parent in inside
    data = model.data_preprocessor(make_images(MODELS[name][0]))
    with torch.no_grad():
        ours, theirs = [
            tensors(m(**data, mode='tensor')) for m in (model, twin)
        ]
    assert len(ours) == len(theirs) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
