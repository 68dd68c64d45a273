"""A part of a network, fitted to what the plain one computed."""
import copy

import pytest
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdna.reconstruction import Recipe
from mmkdna.reconstruction.fitting import Fitting, find_solvable
from mmkdna.reconstruction.parts import Part
from mmkdna.reconstruction.recording import record
from tests.test_reconstruction.networks import forward, networks, pictures
from tests.utils import children_of

STEPS = Recipe(steps=3)


@pytest.fixture(scope='module')
def recorded(tmp_path_factory):
    """Both networks, children sharing, and what a stage gets and gives."""
    theirs, ours = networks('bottleneck')
    for child in children_of(ours).values():
        child.own_share.zero_()
    batches = [pictures(16) for _ in range(5)]
    recordings = [
        record(ours, theirs, Part('layer3', (), 1, False), chosen, forward,
               tmp_path_factory.mktemp('calls') / 'calls')
        for chosen in (batches[:3], batches[3:])
    ]
    return theirs.layer3, ours.layer3, recordings


@pytest.fixture
def fitting(recorded):
    theirs, ours, recordings = recorded
    return Fitting(copy.deepcopy(ours), theirs, *recordings, STEPS)


def error(module, calls):
    """The formula, in float64."""
    module = copy.deepcopy(module).double()
    with torch.no_grad():
        outputs = torch.cat([module(call.x.double()) for call in calls])
    targets = torch.cat([call.target.double() for call in calls])
    means = targets.mean((0, 2, 3), keepdim=True)
    return float(
        ((outputs - targets)**2).mean() / ((targets - means)**2).mean())


def state(module):
    return {key: v.clone() for key, v in module.state_dict().items()}


def same(one, two):
    return all(torch.equal(one[key], two[key]) for key in one)


def test_the_error(fitting):
    expected = error(fitting.module, fitting.choosing)
    assert fitting.before == pytest.approx(expected, rel=1e-4)
    with fitting.attempt(), torch.no_grad():
        for parameter, value in zip(fitting.module.parameters(),
                                    fitting.plain.parameters()):
            if parameter.shape == value.shape:
                parameter.lerp_(value, 0.1)
    fitting.estimate_statistics()
    assert fitting.best == pytest.approx(
        error(fitting.module, fitting.choosing), rel=1e-4)


def test_what_makes_it_no_better_is_taken_back(fitting):
    before = state(fitting.module)
    with fitting.attempt(), torch.no_grad():
        for tensor in fitting.module.state_dict().values():
            tensor.mul_(2)
    assert same(before, state(fitting.module))
    assert fitting.best == fitting.before


@pytest.mark.parametrize('how', ['estimate_statistics', 'solve_projections'])
def test_each_way_makes_the_error_smaller(fitting, how):
    getattr(fitting, how)()
    assert fitting.best < 0.9 * fitting.before
    assert not any(
        m._forward_hooks or m._forward_pre_hooks
        for module in (fitting.module, fitting.plain)
        for m in module.modules())
    assert not any(m.training for m in fitting.module.modules())


def test_training_makes_the_error_smaller(fitting):
    flags = [False] + [True] * (len(list(fitting.module.parameters())) - 1)
    for parameter, flag in zip(fitting.module.parameters(), flags):
        parameter.requires_grad_(flag)
    before = state(fitting.module)
    fitting.estimate_statistics()
    error = fitting.best
    fitting.train(torch.Generator().manual_seed(0))
    assert fitting.best < 0.9 * error
    assert [p.requires_grad for p in fitting.module.parameters()] == flags
    assert all(p.grad is None for p in fitting.module.parameters())
    # Parents, adapters, norms and all the rest.
    after = state(fitting.module)
    assert not any(
        torch.equal(before[name], after[name])
        for name, _ in fitting.module.named_parameters()
        # The gate's bias before its norm has no gradient.
        if 'gate.fc1.bias' not in name)


def test_statistics_are_those_of_what_norms_read(fitting):
    fitting.estimate_statistics()
    norm = fitting.module[0].bn1
    module = copy.deepcopy(fitting.module)
    seen = []
    module[0].conv1.register_forward_hook(lambda *args: seen.append(args[2]))
    with torch.no_grad():
        for call in fitting.fitted:
            module(call.x)
    means = torch.stack([out.mean((0, 2, 3)) for out in seen]).mean(0)
    variances = torch.stack(
        [out.transpose(0, 1).flatten(1).var(1) for out in seen]).mean(0)
    torch.testing.assert_close(norm.running_mean, means)
    torch.testing.assert_close(norm.running_var, variances)
    assert norm.momentum == 0.1


def test_a_parent_with_children_elsewhere_stays(fitting):
    block = fitting.module[2]
    assert block.conv2.role == 'parent'
    block.conv2.num_children += 1
    kernel = block.conv2.weight.detach().clone()
    fitting.train(torch.Generator().manual_seed(0))
    assert torch.equal(block.conv2.weight, kernel)
    assert block.conv2.weight.requires_grad
    assert block.conv2.weight.grad is None


def test_what_is_fixed_stays(fitting):
    module = fitting.module
    # A block, and of the next one a norm alone.
    block = nn.ModuleList([module[0], module[1].bn1])
    fixed = [*block.parameters(), *block.buffers()]
    fitting = Fitting(module, fitting.plain, fitting.fitted, fitting.choosing,
                      STEPS, fixed)
    before, others = state(block), state(module[1])
    errors = [fitting.best]
    for fit in (fitting.estimate_statistics,
                lambda: fitting.train(torch.Generator()),
                fitting.solve_projections):
        fit()
        errors.append(fitting.best)
        assert same(before, state(block))
    assert errors == sorted(errors, reverse=True)
    assert not any(
        torch.equal(others[key], module[1].state_dict()[key])
        for key in ('conv1.weight', 'conv3.weight', 'bn2.running_mean'))


def test_nothing_is_left_to_train(fitting):
    module = fitting.module
    before = state(module)
    fitting = Fitting(module, fitting.plain, fitting.fitted, fitting.choosing,
                      STEPS, [*module.parameters(), *module.buffers()])
    fitting.estimate_statistics()
    fitting.solve_projections()
    fitting.train(torch.Generator())
    assert same(before, state(module))


def test_an_error_changes_no_settings(fitting):

    class Broken(Exception):
        pass

    def broken(*_):
        raise Broken

    norms = [m for m in fitting.module.modules() if isinstance(m, _BatchNorm)]
    fitting.module[0].conv1.weight.requires_grad_(False)
    flags = [p.requires_grad for p in fitting.module.parameters()]
    fitting.module[1].bn3.register_forward_hook(broken)
    # Before a block's last norm, too.
    fitting.module[1].conv2.register_forward_hook(broken)
    for fit in (fitting.estimate_statistics, fitting.solve_projections,
                lambda: fitting.train(torch.Generator())):
        with pytest.raises(Broken):
            fit()
        assert not any(norm.training for norm in norms)
        assert {norm.momentum for norm in norms} == {0.1}
        assert [p.requires_grad for p in fitting.module.parameters()] == flags
        assert not fitting.module[0]._forward_pre_hooks
        assert not any(m._forward_hooks for m in fitting.plain.modules())


def test_an_output_that_is_no_number(fitting):
    with torch.no_grad():
        fitting.module[6].bn3.bias.fill_(float('inf'))
    with pytest.raises(
            ValueError, match='output in the sharing network .* no finite'):
        Fitting(fitting.module, fitting.plain, fitting.fitted,
                fitting.choosing, STEPS)


def test_the_same_for_a_seed(recorded):
    theirs, ours, recordings = recorded
    states = []
    for seed in (0, 0, 1):
        fitting = Fitting(copy.deepcopy(ours), theirs, *recordings, STEPS)
        fitting.train(torch.Generator().manual_seed(seed))
        states.append(state(fitting.module))
    assert same(states[0], states[1]) and not same(states[0], states[2])


def test_a_loss_that_is_no_number(recorded):
    theirs, ours, recordings = recorded
    fitting = Fitting(
        copy.deepcopy(ours), theirs, *recordings, Recipe(lr=1e30, steps=9))
    with pytest.raises(ValueError, match='loss of step .* fewer steps or sm'):
        fitting.train(torch.Generator())


@pytest.mark.parametrize('name', ['steps', 'lr', 'adapter_lr'])
@pytest.mark.parametrize('value', [0, -1, float('nan'), float('inf')])
def test_recipes_that_cannot_work(name, value):
    with pytest.raises(ValueError, match=f'{name}=.* positive'):
        Recipe(**{name: value})


@pytest.mark.parametrize('name, convs', [
    ('bottleneck', {f'part.{i}.conv3'
                    for i in range(7)}),
    ('inverted', {f'part.{i}.linear_conv.conv'
                  for i in range(3)}),
    ('basic', set()),
])
def test_what_can_be_solved(name, convs):
    _, ours = networks(name)
    modules = dict(ours.layer3.named_modules(prefix='part'))
    assert {block.conv for block in find_solvable(modules)} == convs


def test_a_layer_of_its_own_can_be_solved():
    _, ours = networks('inverted')
    block, = find_solvable(dict(ours.conv2.named_modules(prefix='part')))
    assert block[:3] == ('part', 'part.conv', 'part.bn')
    assert not block.norms and not block.has_shortcut


def test_a_solved_block_gives_what_it_can(recorded):
    """With own kernels, the least squares change nothing."""
    theirs, ours, recordings = recorded
    module = copy.deepcopy(ours)
    for child in children_of(module).values():
        child.own_share.fill_(1)
    with torch.no_grad():
        for m in module.modules():
            if isinstance(m, _BatchNorm) and m is module[1].bn3:
                nn.init.constant_(m.weight, 0.3)
    fitting = Fitting(module, theirs, *recordings, STEPS)
    fitting.solve_projections()
    assert fitting.best < 0.5 * fitting.before
