"""Convolutions that a head registers under several names."""
import copy

import pytest
import torch
from mmengine.registry import DefaultScope

from mmkdna import switch_to_deploy
from mmkdna.sharing import first_names
from tests.utils import kernel_dna, pattern, randomize, relative_error

mmdet = pytest.importorskip('mmdet')
FEATURES = [torch.randn(2, 16, size, size) for size in (8, 4, 2)]
CHANNELS = dict(
    num_classes=2,
    in_channels=16,
    feat_channels=16,
    stacked_convs=2,
    norm_cfg=dict(type='BN'))
HEADS = dict(
    RTMDetSepBNHead=dict(
        CHANNELS,
        anchor_generator=dict(
            type='MlvlPointGenerator', offset=0, strides=[8, 16, 32]),
        bbox_coder=dict(type='DistancePointBBoxCoder'),
        loss_cls=dict(type='QualityFocalLoss', use_sigmoid=True),
        loss_bbox=dict(type='GIoULoss')),
    RetinaSepBNHead=dict(
        CHANNELS,
        num_ins=3,
        anchor_generator=dict(
            type='AnchorGenerator',
            octave_base_scale=4,
            scales_per_octave=1,
            ratios=[1.0],
            strides=[8, 16, 32])))
heads = pytest.mark.parametrize('kind', HEADS)


def make(kind, further=None, **options):
    """A head; with options, of our convolutions."""
    from mmdet.registry import MODELS
    conv_cfg = dict(type='KernelDNA', **options) if options else None
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(
            dict(HEADS[kind], type=kind, conv_cfg=conv_cfg, **(further or {})))


@torch.no_grad()
def answers(head):
    return torch.cat([
        level.flatten() for levels in head.eval()(FEATURES) for level in levels
    ])


@heads
def test_a_module_is_one_under_all_its_names(kind):
    head = make(kind, share=True)
    assert pattern(head) == 'S F S F'
    further = first_names(head)
    assert further['cls_convs.2.1.conv'] == 'cls_convs.0.1.conv'
    assert set(further.values()) <= set(dict(head.named_modules()))
    assert not first_names(head.cls_convs[0])


@heads
@pytest.mark.parametrize(
    'options',
    [dict(share=False), dict(keep_own_kernel=True)])
def test_plain_weights_give_what_the_stock_head_gives(kind, options):
    stock, ours = randomize(make(kind)), make(kind, **options)
    weights = stock.state_dict()
    before = dict(weights)
    ours.load_state_dict(weights, strict=True)
    assert weights == before
    assert relative_error(answers(ours), answers(stock)) <= 1e-6


@heads
def test_plain_weights_are_fitted_under_all_names(kind):
    ours = make(kind, min_channels=1)
    ours.load_state_dict(randomize(make(kind)).state_dict(), strict=True)
    assert not ours.plain_report.missing and not ours.plain_report.unexpected
    child, parent, *_ = kernel_dna(ours).values()
    assert child.parent is parent
    factors = child.adapter.filter.detach()
    assert len(factors.unique()) == len(factors)


def test_the_last_of_several_kernels_counts_as_in_the_stock_head():
    kind = 'RTMDetSepBNHead'
    weights = randomize(make(kind, dict(share_conv=False))).state_dict()
    stock, ours = make(kind), make(kind, keep_own_kernel=True)
    for head in (stock, ours):
        head.load_state_dict(weights)
    assert relative_error(answers(ours), answers(stock)) <= 1e-6


def test_a_name_that_is_not_given_is_missing():
    kind = 'RTMDetSepBNHead'
    weights = make(kind).state_dict()
    del weights['cls_convs.1.0.conv.weight']
    with pytest.raises(RuntimeError, match='Missing.*cls_convs.1.0.conv.ada'):
        make(kind, share=True).load_state_dict(weights)


@heads
def test_the_deploy_form_takes_the_trained_weights(kind):
    trained = randomize(make(kind, share=True))
    deployed = make(kind, deploy=True)
    deployed.load_state_dict(trained.state_dict(), strict=True)
    again = make(kind, deploy=True)
    before = answers(trained)
    assert relative_error(answers(deployed), before) <= 1e-5
    again.load_state_dict(switch_to_deploy(trained).state_dict(), strict=True)
    assert relative_error(answers(again), before) <= 1e-5


@heads
@pytest.mark.parametrize('conv_type', ['CondConv', 'KernelWarehouse'])
def test_rivals_take_plain_weights_under_all_names(kind, conv_type):
    from mmdet.registry import MODELS
    cfg = dict(HEADS[kind], type=kind, conv_cfg=dict(type=conv_type))
    with DefaultScope.overwrite_default_scope('mmdet'):
        ours = MODELS.build(cfg)
    ours.load_state_dict(randomize(make(kind)).state_dict(), strict=True)
    again = copy.deepcopy(ours)
    again.load_state_dict(ours.state_dict(), strict=True)
    assert torch.equal(answers(again), answers(ours))
