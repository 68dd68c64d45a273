"""A network that shares, made to compute what the plain one did."""
import copy
import json
import sys
from dataclasses import asdict

import pytest
import torch
from mmengine.registry import MODELS

from mmkdna.reconstruction import Recipe, reconstruct, whole_model
from mmkdna.reconstruction.batches import Views
from mmkdna.reconstruction.outputs import tensors_of
from tests.runs import run as run_command
from tests.test_reconstruction.networks import (HEADS, NETWORKS, forward,
                                                networks, pictures)
from tests.utils import children_of, relative_error

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
                         Recipe(steps=30) if name in HEADS else QUICK)
    assert ours.reconstruction_report is report
    assert {n: m.training for n, m in ours.named_modules()} == modes
    ours.eval()
    assert not any('own_' in key for key in ours.state_dict())
    reports = [child for part in report.parts for child in part.children]
    assert sorted(child.name for child in reports) == sorted(children)
    assert not report.left_out and report.agreement is None
    # No part is worse than before.
    assert all(part.after <= part.before for part in report.parts)
    assert report.error_after < 0.8 * report.error_before
    assert error(ours, theirs, new) == pytest.approx(
        report.error_after, rel=1, abs=0.05)
    assert json.loads(json.dumps(asdict(report)))['parts']
    assert all(one.name in str(report) for one in (*report.parts, *reports))


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


@pytest.mark.parametrize('name', ['bottleneck', 'basic', 'fpn'])
def test_the_figures_of_children(name):
    """Those of the blocks around them, on what chooses, in both networks."""
    theirs, ours = networks(name)
    sharing = copy.deepcopy(ours)
    for child in children_of(sharing).values():
        child.own_share.zero_()
    batches = batches_of(name)
    report = reconstruct(ours, batches, forward, QUICK)
    assert len(report.parts) > 1 and report.parts[0].children
    for number, part in enumerate(report.parts):
        for child in part.children:
            block = child.name.rpartition('.')[0]
            after = _error_of(block, ours, theirs, batches[0])
            assert child.after == pytest.approx(after, rel=1e-3)
            if number == 0:
                before = _error_of(block, sharing, theirs, batches[0])
                assert child.before == pytest.approx(before, rel=1e-3)


@torch.no_grad()
def _error_of(block, ours, theirs, x):
    """Of what a block gives in whole networks."""
    given = []
    for network in (ours, theirs):
        handle = network.get_submodule(block).register_forward_hook(
            lambda _, args, output: given.append(output.double().clone()))
        forward(network, x)
        handle.remove()
    one, other = given
    mean = other.mean((0, 2, 3), keepdim=True)
    return float(((one - other)**2).mean() / ((other - mean)**2).mean())


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


def test_crops_are_fitted_to_and_neither_choose_nor_report(monkeypatch):
    fit = whole_model._fit
    sizes, inputs = [], []

    def note(fitting, part, seed):
        sizes.append((len(fitting.fitted), len(fitting.choosing)))
        inputs.append([call.plain_x for call in fitting.fitted])
        fit(fitting, part, seed)

    monkeypatch.setattr(whole_model, '_fit', note)
    theirs, ours = networks('bottleneck')
    batches = batches_of('bottleneck')
    errors = []
    for views in (1, 3):
        report = reconstruct(
            copy.deepcopy(ours), batches, forward,
            Recipe(steps=2, views=views))
        errors.append((report.error_before, report.parts[0].before))
    assert sizes == [(8, 1)] * 2 + [(24, 1)] * 2
    assert errors[0] == errors[1]
    # Each part gets what is before it gives for the same crops.
    for x, features in zip(Views(batches[2:], 3, 0), inputs[3]):
        with torch.no_grad():
            assert relative_error(features, theirs(x)[0]) < 1e-5


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


@pytest.mark.parametrize('sharing', [True, False])
def test_it_says_whose_outputs_are_no_numbers(sharing):
    _, ours = networks('bottleneck')
    child = next(iter(children_of(ours).values()))
    with torch.no_grad():
        (child.adapter.filter if sharing else ours.conv1.weight).fill_(3e38)
    network = 'sharing' if sharing else 'plain'
    with pytest.raises(
            ValueError, match=f'output of the {network} network .* no finite'):
        reconstruct(ours, batches_of('bottleneck', 4), forward, QUICK)


def test_it_says_which_part_gives_no_number(monkeypatch):
    _, ours = networks('bottleneck')
    child = next(iter(children_of(ours).values()))
    with torch.no_grad():
        child.adapter.filter.fill_(3e38)
    # As if only what nothing is reported of were no number.
    monkeypatch.setattr(whole_model, 'compare_outputs', lambda *_: (1., None))
    with pytest.raises(ValueError, match='layer3: its output in the sharing'):
        reconstruct(ours, batches_of('bottleneck', 4), forward, QUICK)


def spoil(fitting, part, seed):
    """Try what makes a part worse."""
    with fitting.attempt(), torch.no_grad():
        for parameter in fitting.module.parameters():
            parameter.mul_(2)


def test_a_part_that_gets_no_better_is_left_as_it_was(monkeypatch):
    _, ours = networks('bottleneck')
    before = state(ours)
    fit = whole_model._fit

    def fit_or_spoil(fitting, part, seed):
        (spoil if part.name == 'layer3' else fit)(fitting, part, seed)

    monkeypatch.setattr(whole_model, '_fit', fit_or_spoil)
    report = reconstruct(ours, batches_of('bottleneck', 4), forward, QUICK)
    left, fitted = report.parts
    assert (left.name, left.after) == ('layer3', left.before)
    assert fitted.after < fitted.before
    after = state(ours)
    assert all(
        torch.equal(value, before[key]) for key, value in after.items()
        if 'layer4' not in key)
    lines = [
        line for line in str(report).split('\n') if line.startswith('  layer')
    ]
    assert ['left as it was' in line for line in lines] == [True, False]


def test_what_parts_have_in_common_is_fitted_once(monkeypatch):
    """A part is what its report says also after those behind it."""
    _, ours = networks('towers')
    convs = [ours.cls_convs[level][1].conv for level in range(3)]
    assert convs[0] is convs[1] is convs[2]
    fit = whole_model._fit
    fitted = []

    def note(fitting, part, seed):
        fit(fitting, part, seed)
        fitted.append((fitting, list(fitting.choosing)))

    monkeypatch.setattr(whole_model, '_fit', note)
    report = reconstruct(ours, batches_of('towers'), forward, QUICK)
    assert len(report.parts) == len(fitted) > 6
    for part, (fitting, calls) in zip(report.parts, fitted):
        fitting.choosing = calls
        assert fitting._error() == pytest.approx(part.after, rel=1e-4)


class Stopped(Exception):
    """What a kill is."""


def test_an_error_leaves_the_model_as_it_was(monkeypatch):
    _, ours = networks('bottleneck')
    ours.train()
    ours.layer2.eval()
    modes = {n: m.training for n, m in ours.named_modules()}
    before = state(ours)
    fit = whole_model._fit

    def stop(fitting, part, seed):
        fit(fitting, part, seed)
        raise Stopped

    monkeypatch.setattr(whole_model, '_fit', stop)
    with pytest.raises(Stopped):
        reconstruct(ours, batches_of('bottleneck', 4), forward, QUICK)
    assert same(before, state(ours))
    assert {n: m.training for n, m in ours.named_modules()} == modes


def test_it_goes_on_where_it_was_stopped(tmp_path, monkeypatch):
    _, first = networks('bottleneck')
    again, other = copy.deepcopy(first), copy.deepcopy(first)
    batches = batches_of('bottleneck', 4)
    file = tmp_path / 'state.pth'
    recipe = Recipe(steps=2)
    expected = reconstruct(first, batches, forward, recipe)
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
    assert done == ['layer3', 'layer4']
    assert same(state(first), state(again)) and found == expected
    # What is done as a whole is not done again.
    last = copy.deepcopy(other)
    assert reconstruct(last, batches, forward, recipe, state=file) == expected
    assert len(done) == 2 and same(state(first), state(last))
    # From another start it begins anew: another seed, another picture.
    for seed, number in ((1, None), (0, 3)):
        file.write_bytes(kept)
        pictures = [
            batch.flip(3) if i == number else batch
            for i, batch in enumerate(batches)
        ]
        done.clear()
        reconstruct(
            copy.deepcopy(other), pictures, forward, recipe, seed, state=file)
        assert done == ['layer3', 'layer4']


SCRIPT = '''
import copy
import sys
import torch
from mmengine.dist import barrier, get_rank
from mmkdna.launch.distributed import start_gloo
from mmkdna.reconstruction import Recipe, whole_model
from tests.test_reconstruction.networks import forward, networks, pictures

torch.set_num_threads(1)
start_gloo()
torch.manual_seed(0)
_, network = networks('bottleneck')
batches = [pictures(4, seed=10 * get_rank() + i) for i in range(4)]
fit = whole_model._fit
done = []


def note(fitting, part, seed):
    if stopped and part.name == 'layer4':
        raise KeyboardInterrupt
    done.append(part.name)
    fit(fitting, part, seed)


def run(state=None):
    done.clear()
    ours = copy.deepcopy(network)
    report = whole_model.reconstruct(
        ours, batches, forward, Recipe(steps=2), state=state)
    return ours.state_dict(), report


whole_model._fit = note
stopped = False
expected, report = run()
# As on machines of their own.
state = f'{sys.argv[1]}/{get_rank()}.pth'
stopped = True
try:
    run(state)
except KeyboardInterrupt:
    pass
barrier()
stopped = False
found, again = run(state)
assert done == ['layer4'] and again == report, (done, again, report)
for key, value in expected.items():
    assert torch.equal(found[key], value), key
print('the same on each', flush=True)
# Pictures of any process count.
if get_rank() == 1:
    batches[3] = batches[3].flip(3)
run(state)
assert done == ['layer3', 'layer4'], done
print('anew on each', flush=True)
torch.distributed.barrier()
'''


def test_two_processes_go_on_where_they_were_stopped(tmp_path):
    script = tmp_path / 'script.py'
    script.write_text(SCRIPT)
    said = run_command(
        sys.executable,
        '-m',
        'torch.distributed.run',
        '--standalone',
        '--nproc_per_node=2',
        script,
        tmp_path,
        cwd=tmp_path)
    assert said.count('the same on each') == said.count('anew on each') == 2
    assert (tmp_path / '0.pth').exists() and not (tmp_path / '1.pth').exists()
