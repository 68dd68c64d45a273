"""Adapters from plain kernels, where something is out of the ordinary."""
import pytest
import torch
from torch import nn

from mmkdna import switch_to_deploy
from tests.test_pretrained.test_plain import (answer_of, lively, load, resnet,
                                              weights_of_kin)
from tests.utils import children_of, make_kin

pytest.importorskip('mmpretrain')
X = torch.randn(2, 3, 48, 48, generator=torch.Generator().manual_seed(0))


def narrow(**options):
    return resnet(
        18, base_channels=16, conv_cfg=dict(type='KernelDNA', **options))


def plain():
    return lively(resnet(18, base_channels=16, sharing_stages=()))


@pytest.mark.parametrize(
    'options', [dict(), dict(share=False),
                dict(keep_own_kernel=True)])
def test_assigned_weights_have_the_type_of_those_given(options):
    module = make_kin(**options)
    module.load_state_dict(weights_of_kin(), assign=True, strict=False)
    types = {value.dtype for value in module.state_dict().values()}
    assert types == {torch.float32, torch.int64}


@pytest.mark.parametrize('share', [True, False])
def test_assigned_factors_can_be_trained(share):
    module = make_kin(share=share)
    module.load_state_dict(weights_of_kin(), assign=True, strict=False)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.mul_(2)


@pytest.mark.parametrize('options', [
    dict(),
    dict(share=False),
    dict(keep_own_kernel=True),
    dict(deploy=True),
    dict(modulation=('filter', ))
])
def test_plain_weights_make_up_a_model_without_values(options):
    module, twin = make_kin(**options).to('meta'), make_kin(**options)
    weights = weights_of_kin()
    module.load_state_dict(weights, assign=True)
    twin.load_state_dict(weights)
    # Gates start the same for all images, whatever is before fc2.
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(module.eval()(x), twin.eval()(x))


def whole_numbers():
    return {
        key: (50 * value).round().to(torch.int8)
        for key, value in weights_of_kin().items()
    }


@pytest.mark.parametrize('given',
                         [['0.0.weight'], ['0.0.weight', '0.1.weight']])
@pytest.mark.parametrize('options', [
    dict(),
    dict(share=False),
    dict(keep_own_kernel=True),
    dict(share=False, modulation=('channel', ))
])
def test_whole_numbers_are_fitted_as_floats_are(given, options):
    weights = {key: whole_numbers()[key] for key in given}
    ours, theirs = make_kin(**options), make_kin(**options)
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(dict(weights), strict=False)
    theirs.load_state_dict(
        {
            key: value.double()
            for key, value in weights.items()
        }, strict=False)
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key


@pytest.mark.parametrize('assign', [True, False])
def test_parameters_are_taken_as_tensors_are(assign):
    # With blocks whose channels are aligned.
    network = plain()
    weights = network.state_dict()
    parameters = {**weights, **dict(network.named_parameters())}
    ours, theirs = narrow(), narrow()
    theirs.load_state_dict(ours.state_dict())
    ours.load_state_dict(parameters, strict=False, assign=assign)
    theirs.load_state_dict(weights, strict=False)
    for key, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[key], value), key
    assert all(p.is_leaf and p.requires_grad for p in ours.parameters())
    stem = dict(network.named_parameters())['conv1.weight']
    assert (ours.conv1.weight is stem) == assign


@pytest.mark.parametrize('share', [True, False])
def test_deployed_convolutions_get_neutral_gates(share):
    theirs, ours = plain(), narrow(deploy=True, share=share)
    load(ours, theirs.state_dict())
    torch.testing.assert_close(
        answer_of(ours, X), answer_of(theirs, X), rtol=1e-4, atol=1e-5)


def test_a_deployed_checkpoint_is_taken_as_it_is():
    linked = narrow()
    load(linked, plain().state_dict())
    for child in children_of(linked).values():
        nn.init.normal_(child.adapter.gate.fc2.weight)
    deployed = switch_to_deploy(linked)
    again = load(narrow(deploy=True), deployed.state_dict(), True)
    assert torch.equal(answer_of(again, X), answer_of(deployed, X))


def test_a_kernel_of_zeros_comes_back(said):
    weights = weights_of_kin()
    weights['0.0.weight'].zero_()
    module = make_kin()
    module.load_state_dict(weights)
    assert 'relative error 0.000' in said()
    assert not module[0][0].kernel().any()


@pytest.mark.parametrize('norm', [0, 1e-40, 1e-6])
@pytest.mark.parametrize('part, dims', [('filter', (1, 2, 3)),
                                        ('spatial', (0, 1))])
def test_what_is_dead_in_a_parent_has_no_factor(part, dims, norm):
    weights = weights_of_kin()
    parent = weights['0.1.weight'].double()
    dead = parent[:1] if part == 'filter' else parent[:, :, :1, :1]
    dead.mul_(norm / dead.norm())
    weights['0.1.weight'] = parent.float()
    child = weights['0.0.weight'].double()
    module = make_kin(modulation=(part, ))
    module.load_state_dict(weights)
    ratio = (child.pow(2).sum(dims) / parent.pow(2).sum(dims)).sqrt()
    ratio.view(-1)[0] = 1
    factors = getattr(module[0][0].adapter, part).flatten() + 1
    torch.testing.assert_close(factors.double(), ratio.flatten())


@pytest.mark.parametrize('modulation', [(), ('filter', 'spatial', 'channel')])
def test_own_kernels_end_where_the_checkpoints_have(modulation):
    options = dict(modulation=modulation, keep_own_kernel=True)
    ended = narrow(**options)
    load(ended, plain().state_dict())
    for child in children_of(ended).values():
        child.drop_own_weight()
    ours = load(narrow(**options), ended.state_dict(), True)
    assert torch.equal(answer_of(ours, X), answer_of(ended, X))


def test_weights_of_something_else_leave_own_kernels():
    ours = narrow(modulation=(), keep_own_kernel=True)
    load(ours, dict(conv1=torch.zeros(1)))
    assert all('own_weight' in c._buffers for c in children_of(ours).values())


@pytest.mark.parametrize('trains', [True, False])
def test_a_new_block_that_cannot_learn_is_named(trains, said):
    weights = plain().state_dict()
    weights = {
        key: value
        for key, value in weights.items() if not key.startswith('layer3.2.')
    }
    ours = resnet(
        18, base_channels=16, norm_cfg=dict(type='BN', requires_grad=trains))
    load(ours, weights)
    told = 'frozen at zero, so that they stay it: layer3.2; norm_cfg'
    assert (told in said()) != trains
