"""Weights that share, in models whose children are built deployed."""
from copy import deepcopy

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict

from mmkdna import switch_to_deploy
from mmkdna.deploy import deploy_config
from tests.test_deploy import MODEL_CFGS, answers, build
from tests.utils import make_kin, randomize


def equal(module, other):
    """Whether two modules have the same weights, of the same types."""
    ours, theirs = module.state_dict(), other.state_dict()
    return list(ours) == list(theirs) and all(
        torch.equal(ours[key], theirs[key])
        and ours[key].dtype == theirs[key].dtype for key in ours)


@pytest.mark.parametrize('name', MODEL_CFGS)
def test_a_deployed_model_takes_the_weights_of_the_trained_one(name):
    trained = build(MODEL_CFGS[name])
    cfg = deploy_config(Config(dict(model=MODEL_CFGS[name])))
    model = MODELS.build(cfg.model)
    model.eval()
    weights = trained.state_dict()
    before = {key: value.clone() for key, value in weights.items()}
    model.load_state_dict(weights, strict=True)
    assert weights.keys() == before.keys()
    assert all(torch.equal(weights[key], before[key]) for key in before)
    assert equal(model, switch_to_deploy(trained))


@pytest.mark.parametrize('modulation', [(), ('filter', ), ('channel', ),
                                        ('filter', 'spatial', 'channel')])
@pytest.mark.parametrize('norm_cfg', [
    None,
    dict(type='BN', eps=0.1),
    dict(type='SyncBN'),
    dict(type='GN', num_groups=1)
])
@pytest.mark.parametrize('share', [True, False])
def test_every_option(modulation, norm_cfg, share):
    options = dict(modulation=modulation, norm_cfg=norm_cfg, share=share)
    trained = randomize(make_kin(3, **options)).eval()
    model = randomize(make_kin(3, deploy=True, **options)).eval()
    # A copy as well, as EMA makes one.
    copy = deepcopy(model)
    load_state_dict(model, trained.state_dict(), strict=True)
    copy.load_state_dict(trained.state_dict())
    switch_to_deploy(trained)
    assert equal(model, trained) and equal(copy, trained)
    # Those of the deploy form are taken as they are.
    model.load_state_dict(trained.state_dict())
    assert equal(model, trained)


def test_half_weights_are_folded_in_float32():
    trained = randomize(make_kin(3)).eval()
    half = {
        key: value.half() if value.is_floating_point() else value
        for key, value in trained.state_dict().items()
    }
    model = make_kin(3, deploy=True).eval()
    model.load_state_dict(half)
    trained.load_state_dict(half)
    assert equal(model, switch_to_deploy(trained))
    assert model[0][0].weight.dtype == torch.float32


@pytest.mark.parametrize('lost', ['0.1.weight', '0.0.adapter.filter'])
def test_what_is_not_complete_is_left_to_torch(lost):
    weights = randomize(make_kin(2)).state_dict()
    model = make_kin(2, deploy=True)
    before = deepcopy(model)
    del weights[lost]
    with pytest.raises(RuntimeError, match='Missing key.*0.0.weight'):
        model.load_state_dict(weights)
    assert torch.equal(model[0][0].weight, before[0][0].weight)
    # None of it changes what it does not mention.
    for key in list(weights):
        model.load_state_dict({key: weights[key]}, strict=False)
    assert torch.equal(model[0][0].weight, before[0][0].weight)


@pytest.mark.parametrize('key', ['0.1.weight', '0.0.adapter.filter'])
def test_a_wrong_shape_is_left_to_torch(key):
    weights = randomize(make_kin(2)).state_dict()
    weights[key] = torch.cat([weights[key]] * 2)
    with pytest.raises(RuntimeError, match='Missing key.*0.0.weight'):
        make_kin(2, deploy=True).load_state_dict(weights)


def test_the_answers_are_those_of_the_trained_model():
    trained = randomize(make_kin(3).double()).eval()
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    model = make_kin(3, deploy=True).double().eval()
    model.load_state_dict(trained.state_dict())
    torch.testing.assert_close(answers(model, x), answers(trained, x))
