"""What a unit tells of the plain weights it took."""
import copy
import pickle

import pytest
import torch
from torch import nn

from mmkdna.pretrained import PlainReport, plain_report
from tests.test_pretrained.test_missing_blocks import plain, small, without
from tests.test_pretrained.test_nested_units import around
from tests.test_pretrained.test_plain import load, weights_of_kin
from tests.utils import children_of, make_kin

pytest.importorskip('mmpretrain')


@pytest.fixture
def loaded():
    """A model whose backbone took the weights of a shorter network."""
    weights = without(plain(), 'layer3.2.', 'layer1.0.bn1.', 'conv1.')
    weights['conv1.weight'] = torch.ones(8, 3, 5, 5)
    weights['fc.weight'] = torch.ones(2, 64)
    model = nn.ModuleDict(dict(backbone=small()))
    load(model, {f'backbone.{key}': v for key, v in weights.items()})
    return model, weights


def test_what_it_tells(loaded, said):
    model, weights = loaded
    report = model['backbone'].plain_report
    state = model['backbone'].state_dict()
    children = children_of(model['backbone'])
    assert report.unit == 'KernelDNAResNet'
    assert report.aligned == ['layer3.0', 'layer4.0']
    assert report.identity == ['layer3.2'] and report.stuck == []
    assert [(fit.child, fit.parent)
            for fit in report.fits] == [(name, conv.parent_name)
                                        for name, conv in children.items()
                                        if name != 'layer3.2.conv1']
    assert report.unexpected == ['fc.weight']
    assert sorted(report.missing) == sorted(
        key for key in state
        if key.startswith(('layer3.2.', 'layer1.0.bn1.', 'conv1.'))
        and 'num_batches' not in key and key != 'layer3.2.bn2.weight')
    for key in report.exact:
        assert torch.equal(state[key], weights[key])
    # What is not exact has been permuted.
    for key in set(weights) & set(state) - set(report.exact):
        assert key.startswith(('layer3.0.', 'layer4.0.')) or key == \
            'conv1.weight'
    assert {
        'layer3.1.conv2.weight', 'layer1.0.conv1.weight', 'bn1.running_var'
    } < set(report.exact)


def test_it_prints_as_the_log_says(loaded):
    report = loaded[0]['backbone'].plain_report
    width = max(len(fit.child) for fit in report.fits)
    assert str(report).split('\n') == [
        'KernelDNA: KernelDNAResNet takes plain weights. Parents and plain '
        'convolutions have theirs exactly; the kernels of the children became '
        'adapters:',
        *(f'  {fit.child:{width}} from {fit.parent:{width}} relative error '
          f'{fit.error:.3f}, cosine {fit.cosine:.3f}' for fit in report.fits),
        'KernelDNA: KernelDNAResNet has blocks that the weights do not have '
        'and that start as the identity: layer3.2'
    ]


def test_the_log_has_it(said):
    module = make_kin()
    module.load_state_dict(weights_of_kin())
    assert str(module.plain_report) in said()


def test_it_is_no_weight(loaded):
    model, _ = loaded
    assert not any('report' in key for key in model.state_dict())


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda model: pickle.loads(pickle.dumps(model))])
def test_copies_have_it(duplicate, loaded):
    model, _ = loaded
    report = model['backbone'].plain_report
    assert duplicate(model)['backbone'].plain_report == report
    assert isinstance(report, PlainReport)


def test_reports_of_all_units():
    model = nn.ModuleDict(dict(neck=around(share=True), head=make_kin()))
    assert plain_report(model) == {}
    load(model, {f'neck.{k}': v for k, v in around().state_dict().items()})
    found = plain_report(model)
    assert list(found) == ['neck', 'neck.inside']
    for name, report in found.items():
        unit = model.get_submodule(name)
        assert report is unit.plain_report
        fit, = report.fits
        assert (fit.child, fit.parent) == ('stage.0', 'stage.1')
        # Of each its own.
        assert report.missing == report.unexpected == []
        assert sorted(report.exact) == [
            'stage.0.bias', 'stage.1.bias', 'stage.1.weight'
        ]


def test_it_is_that_of_the_weights_loaded_last():
    module = make_kin()
    module.load_state_dict(weights_of_kin())
    assert module.plain_report.missing == []
    part = {'0.1.weight': weights_of_kin()['0.1.weight']}
    module.load_state_dict(part, strict=False)
    assert module.plain_report.exact == ['0.1.weight']
    assert '0.0.adapter.filter' in module.plain_report.missing
    module.load_state_dict(module.state_dict())
    assert module.plain_report is None and plain_report(module) == {}
