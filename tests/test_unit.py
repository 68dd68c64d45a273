"""A unit whose child has lost its parent."""
import copy
import pickle

import pytest
import torch
from mmengine.model import MMDistributedDataParallel
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import get_state_dict, save_checkpoint
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from mmkdna import link_kernels, switch_to_deploy
from tests.test_pretrained.test_nested_units import around
from tests.utils import children_of, make_kin

SAVERS = {
    'torch': lambda module: module.state_dict(),
    'mmengine': get_state_dict,
}
every_saver = pytest.mark.parametrize('save', SAVERS.values(), ids=SAVERS)


def replace_parent(kin):
    """Put a plain convolution in the place of the parent, as a fuser does."""
    plain = nn.Conv2d(8, 8, 3, padding=1)
    plain.load_state_dict(kin[0][1].state_dict())
    kin[0][1] = fuse_conv_bn_eval(plain.eval(), nn.BatchNorm2d(8).eval())
    return kin


def assert_refused(save, model, child='0.0'):
    with pytest.raises(ValueError) as error:
        save(model)
    message = str(error.value)
    assert f"{child} of a Sequential is a child of '0.1'" in message
    assert 'lies outside of that module' in message
    assert 'call mmkdna.switch_to_deploy(model) before that' in message


@every_saver
def test_no_state_dict_without_the_shared_kernel(save):
    kin = make_kin(2)
    x = torch.randn(2, 8, 6, 6)
    before = kin.eval()(x)
    assert '0.1.weight' in save(kin)
    replace_parent(kin)
    # The outputs tell nothing.
    torch.testing.assert_close(kin(x), before, rtol=1e-3, atol=1e-4)
    assert_refused(save, kin)
    kin[0][1] = children_of(kin)['0.0'].parent
    assert '0.1.weight' in save(kin)


@every_saver
def test_no_checkpoint_is_written(save, tmp_path):
    model = nn.ModuleDict(dict(backbone=replace_parent(make_kin(2))))
    file = tmp_path / 'model.pth'
    with pytest.raises(ValueError):
        save_checkpoint(dict(state_dict=save(model)), str(file))
    assert not file.exists()


@every_saver
@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_copies_are_checked_for_themselves(save, duplicate):
    kin = make_kin(2)
    twin = replace_parent(duplicate(kin))
    assert_refused(save, twin)
    assert_refused(save, duplicate(twin))
    save(kin)


@every_saver
def test_in_a_model(save):
    model = nn.Sequential(make_kin(2), make_kin(2))
    save(model)
    replace_parent(model[1])
    assert_refused(save, model)


@every_saver
@pytest.mark.parametrize('part', ['stage', 'inside.stage'])
def test_in_a_unit_inside_another_and_around_it(save, part):
    unit = around(share=True)
    save(unit)
    replace_parent([unit.get_submodule(part)])
    with pytest.raises(ValueError, match='lies outside of that module'):
        save(unit)


@every_saver
def test_in_parallel(save, tmp_path):
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/store', rank=0, world_size=1)
    try:
        model = MMDistributedDataParallel(make_kin(2))
        save(model)
        replace_parent(model.module)
        assert_refused(save, model)
    finally:
        torch.distributed.destroy_process_group()


@every_saver
@pytest.mark.parametrize('options', [dict(), dict(modulation=('filter', ))])
def test_deployed_models_are_left_alone(save, options):
    kin = switch_to_deploy(make_kin(2, **options))
    expected = set(save(kin))
    assert '0.0.weight' in expected
    assert set(save(replace_parent(kin))) == expected


def test_nothing_is_loaded_without_the_shared_kernel():
    state_dict = make_kin(2).state_dict()
    kin = replace_parent(make_kin(2))
    before = {k: v.clone() for k, v in kin.named_parameters()}
    assert_refused(lambda module: module.load_state_dict(state_dict), kin)
    assert all(torch.equal(v, before[k]) for k, v in kin.named_parameters())


def test_a_unit_is_looked_through_once():
    """Whatever it is linked and copied, and wherever it lies."""
    pytest.importorskip('mmpretrain')
    net = MODELS.build(
        dict(
            type='mmpretrain.ResNet',
            depth=50,
            conv_cfg=dict(type='KernelDNA')))
    link_kernels(net)
    model = copy.deepcopy(nn.Sequential(net))
    link_kernels(model)
    assert sum(len(m._state_dict_hooks) for m in model.modules()) == 1
