"""Which modules become FSDP units, and that none cuts a link."""
import copy

import pytest
import torch
from mmengine.registry import FUNCTIONS, DefaultScope
from torch import nn
from torch.distributed.algorithms._checkpoint.checkpoint_wrapper import (
    CheckpointWrapper, apply_activation_checkpointing)

from mmkdna import kernel_dna_wrap_policy, sharing_table
from tests.runs import CONFIGS
from tests.utils import kernel_dna, make_kin

UNITS = {
    'resnet/kdna-resnet18_8xb32_in1k':
    ['layer3', 'layer3.2', 'layer4', 'layer4.2'],
    'resnet/kdna-resnet50_8xb32_in1k': ['layer3', 'layer4'],
    'mobilenet_v2/kdna-mobilenet-v2_8xb32_in1k':
    ['layer3', 'layer4', 'layer5', 'layer6'],
    # The neck, not its ModuleLists; the head is called by its loss.
    'shapes/retinanet_r18-half-kdna-conv_fpn_12e_shapes':
    ['layer1.0', 'layer1.1', 'layer2', 'layer3', 'layer4', 'neck'],
}


def build(name):
    from mmengine.config import Config
    from mmengine.registry import MODELS
    cfg = Config.fromfile(CONFIGS / f'{name}.py')
    pytest.importorskip(cfg.default_scope)
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        return MODELS.build(cfg.model)


def units(model):
    return [
        name for name, module in model.named_modules() if name
        and kernel_dna_wrap_policy(module, recurse=False, nonwrapped_numel=1)
    ]


@pytest.mark.parametrize('name', UNITS)
def test_units(name):
    model = build(name)
    found = units(model)
    assert [unit.replace('backbone.', '') for unit in found] == UNITS[name]

    def unit(conv):
        around = [name for name in found if conv.startswith(f'{name}.')]
        return max(around, key=len, default='')

    rows = [row for row in sharing_table(model) if row.role == 'child']
    assert rows
    for row in rows:
        assert unit(row.name) == unit(row.parent)


def test_looks_everywhere():
    assert kernel_dna_wrap_policy(nn.Linear(1, 1), True, 2) is True
    assert FUNCTIONS.get('kernel_dna_wrap_policy') is kernel_dna_wrap_policy


def test_what_shares_nothing_is_no_unit():
    assert units(nn.Sequential(make_kin())) == ['0.0']
    assert units(nn.Sequential(make_kin(share=False))) == []
    both = nn.Sequential(*make_kin()[0], *make_kin(share=False)[0])
    assert units(nn.Sequential(both)) == ['0']
    assert units(nn.Sequential(nn.Sequential(nn.Conv2d(1, 1, 3)))) == []


def test_checkpoints_activations():
    model = nn.Sequential(make_kin(4), nn.Conv2d(8, 8, 3))
    other = copy.deepcopy(model)
    apply_activation_checkpointing(other, check_fn=kernel_dna_wrap_policy)
    assert isinstance(other[0][0], CheckpointWrapper)
    assert not isinstance(other[1], CheckpointWrapper)
    # Torch 2.1 asks for a gradient here, where a stage always has one.
    x = torch.randn(2, 8, 8, 8, requires_grad=True)
    for module in (model, other):
        module(x).square().sum().backward()
    for ours, expected in zip(other.parameters(), model.parameters()):
        torch.testing.assert_close(ours.grad, expected.grad)


def test_a_parent_that_is_not_gathered():
    module = make_kin()
    child, parent = kernel_dna(module).values()
    # What FSDP leaves outside of the forward of the parent's unit.
    parent.weight = nn.Parameter(parent.weight.detach().flatten()[:100])
    with pytest.raises(RuntimeError) as error:
        child(torch.randn(2, 8, 8, 8))
    for part in ("'0.1'", '(100,)', '(8, 8, 3, 3)', 'auto_wrap_policy',
                 'kernel_dna_wrap_policy'):
        assert part in str(error.value)
