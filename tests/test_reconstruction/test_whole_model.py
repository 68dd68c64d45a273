"""A network that shares, made to compute what the plain one did."""
import copy
import json
from dataclasses import asdict

import pytest
import torch
from mmengine.registry import MODELS

from mmkdna.reconstruction import Recipe, reconstruct, whole_model
from mmkdna.reconstruction.outputs import tensors_of
from tests.test_reconstruction.networks import (NETWORKS, forward, networks,
                                                pictures)
from tests.utils import children_of

QUICK = Recipe(steps=8)


def batches_of(name, number=10):
    return [pictures(4, name) for _ in range(number)]


def state(network):
    return {key: v.clone() for key, v in network.state_dict().items()}


def same(one, two):
    return list(one) == list(two) and all(
        torch.equal(one[key], two[key]) for key in one)


def error(ours, theirs, x):
    """Of all outputs, in float64."""
    squares = variance = 0
    with torch.no_grad():
        for one, other in zip(
                tensors_of(forward(ours, x)), tensors_of(forward(theirs, x))):
            one, other = one.double(), other.double()
            squares += ((one - other)**2).mean()
            dims = (0, *range(2, other.dim()))
            mean = other.mean(dims, keepdim=True)
            variance += ((other - mean)**2).mean()
    return float(squares / variance)


@pytest.mark.parametrize('name', NETWORKS)
def test_it_comes_nearer_to_the_plain_network(name):
    theirs, ours = networks(name)
    ours.train()
    modes = {n: m.training for n, m in ours.named_modules()}
    new = pictures(16, name)
    children = children_of(ours)
    report = reconstruct(ours, batches_of(name), forward,
                         Recipe(steps=30) if name == 'head' else QUICK)
    assert ours.reconstruction_report is report
    assert {n: m.training for n, m in ours.named_modules()} == modes
    ours.eval()
    assert not any('own_' in key for key in ours.state_dict())
    assert sorted(c for part in report.parts
                  for c in part.children) == sorted(children)
    assert not report.left_out and report.agreement is None
    # No part is worse than before.
    assert all(part.after <= part.before for part in report.parts)
    assert report.error_after < 0.8 * report.error_before
    assert error(ours, theirs, new) == pytest.approx(
        report.error_after, rel=1, abs=0.05)
    assert json.loads(json.dumps(asdict(report)))['parts']
    assert all(part.name in str(report) for part in report.parts)


def test_the_figures_of_the_report():
    theirs, ours = networks('bottleneck')
    batches = batches_of('bottleneck')
    sharing = copy.deepcopy(ours)
    for child in children_of(sharing).values():
        child.own_share.zero_()
    report = reconstruct(ours, batches, lambda m, x: m(x)[-1], QUICK)
    assert report.error_before == pytest.approx(
        _last(sharing, theirs, batches[1])[0], rel=1e-3)
    after, agreement = _last(ours, theirs, batches[1])
    assert report.error_after == pytest.approx(after, rel=1e-3)
    assert report.agreement == pytest.approx(agreement)


def test_figures_of_answers_to_one_picture_at_a_time():
    theirs, ours = networks('bottleneck')
    batches = [pictures(1) for _ in range(12)]

    def answer(network, x):
        return network(x)[-1].mean((2, 3))

    report = reconstruct(ours, batches, answer, Recipe(steps=1))
    with torch.no_grad():
        one, other = (
            answer(network, torch.cat(batches[1::10])).double()
            for network in (ours, theirs))
    expected = ((one - other)**2).mean() / ((other - other.mean(0))**2).mean()
    assert report.error_after == pytest.approx(float(expected), rel=1e-3)
    assert report.agreement in (0, 0.5, 1)


def _last(ours, theirs, x):
    with torch.no_grad():
        one, other = ours(x)[-1].double(), theirs(x)[-1].double()
    mean = other.mean((0, 2, 3), keepdim=True)
    return (float(((one - other)**2).mean() / ((other - mean)**2).mean()),
            float((one.argmax(1) == other.argmax(1)).double().mean()))


def test_pictures_that_report_are_neither_fitted_to_nor_choose():
    states = []
    for other in (False, True):
        torch.manual_seed(0)
        _, ours = networks('bottleneck')
        batches = batches_of('bottleneck')
        if other:
            batches[1] = batches[1].flip(0) * 3
        reconstruct(ours, batches, forward, Recipe(steps=2))
        states.append(state(ours))
    assert same(*states)


def test_nothing_is_changed_where_nothing_is_shared():
    cfg = NETWORKS['bottleneck']
    for shared in (dict(sharing_stages=()),
                   dict(conv_cfg=dict(type='KernelDNA', share=False))):
        network = MODELS.build(dict(cfg, **shared))
        network.eval()
        before = state(network)
        report = reconstruct(network, batches_of('bottleneck', 4), forward)
        assert same(before, state(network))
        assert not report.parts and report.error_after == 0


def test_children_without_an_own_kernel():
    network = MODELS.build(
        dict(NETWORKS['bottleneck'], conv_cfg=dict(type='KernelDNA')))
    with pytest.raises(ValueError, match='keep_own_kernel=True'):
        reconstruct(network, batches_of('bottleneck', 4), forward)


def test_too_few_batches():
    _, ours = networks('bottleneck')
    before = state(ours)
    with pytest.raises(ValueError, match='2 batches .* 3 or more'):
        reconstruct(ours, batches_of('bottleneck', 2), forward)
    assert same(before, state(ours))


def test_it_says_where_something_is_no_number():
    _, ours = networks('bottleneck')
    batches = batches_of('bottleneck', 4)
    batches[3][0, 0, 0, 0] = float('inf')
    with pytest.raises(ValueError, match='layer3: .* no finite'):
        reconstruct(ours, batches, forward, QUICK)


class Stopped(Exception):
    """What a kill is."""


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    _, first = networks('bottleneck')
    again, other = copy.deepcopy(first), copy.deepcopy(first)
    batches = batches_of('bottleneck', 4)
    file = tmp_path / 'state.pth'
    recipe = Recipe(steps=2)
    expected = reconstruct(first, batches, forward, recipe, state=file)
    assert not file.exists()
    done = []
    fit = whole_model._fit

    def note(fitting, part, seed):
        done.append(part.name)
        fit(fitting, part, seed)

    def stop(fitting, part, seed):
        if part.name == 'layer4':
            raise Stopped
        note(fitting, part, seed)

    with monkeypatch.context() as patched:
        patched.setattr(whole_model, '_fit', stop)
        with pytest.raises(Stopped):
            reconstruct(
                copy.deepcopy(again), batches, forward, recipe, state=file)
    assert done == ['layer3'] and file.exists()
    monkeypatch.setattr(whole_model, '_fit', note)
    kept = file.read_bytes()
    found = reconstruct(again, batches, forward, recipe, state=file)
    assert done == ['layer3', 'layer4'] and not file.exists()
    assert same(state(first), state(again)) and found == expected
    # From another start it begins anew.
    file.write_bytes(kept)
    reconstruct(other, batches, forward, recipe, seed=1, state=file)
    assert done[2:] == ['layer3', 'layer4']
