"""Units inside of units, each of which takes its own plain weights."""
import copy

import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdna import KernelDNAConv2d, link_kernels, sharing_table
from tests.utils import children_of, randomize, relative_error

CHANNELS = 8


def rfp(**options):
    """A small RFP of mmdet, whose second pyramid has a backbone of its own.

    Args:
        **options: Of KernelDNA in the pyramid and in that backbone; without
            any, both are plain.
    """
    pytest.importorskip('mmdet')
    conv_cfg = dict(type='KernelDNA', **options) if options else None
    return MODELS.build(
        dict(
            type='mmdet.RFP',
            rfp_steps=2,
            aspp_out_channels=2,
            in_channels=[16, 32, 64, 128],
            out_channels=CHANNELS,
            num_outs=4,
            conv_cfg=conv_cfg,
            rfp_backbone=dict(
                type='mmdet.DetectoRS_ResNet',
                depth=50,
                base_channels=4,
                rfp_inplanes=CHANNELS,
                conv_cfg=conv_cfg,
                norm_cfg=dict(type='BN'),
                norm_eval=False,
                style='pytorch')))


class Around(nn.Module):
    """Two convolutions around a unit that was linked before it."""

    def __init__(self, conv):
        super().__init__()
        # A stage of the same name as that of the unit inside.
        self.stage = nn.Sequential(conv(), conv())
        self.inside = nn.Sequential()
        self.inside.add_module('stage', nn.Sequential(conv(), conv()))
        link_kernels(self.inside)
        link_kernels(self)

    def forward(self, x):
        return self.inside.stage(self.stage(x))


def around(**options):
    """Four convolutions in two units; without options, plain ones."""
    if not options:
        return Around(lambda: nn.Conv2d(CHANNELS, CHANNELS, 3))
    return Around(lambda: KernelDNAConv2d(CHANNELS, CHANNELS, 3, **options))


def pictures():
    shapes = [(3, 64), (16, 16), (32, 8), (64, 4), (128, 2)]
    return [
        torch.randn(2, channels, size, size, dtype=torch.float64)
        for channels, size in shapes
    ]


UNITS = {
    'rfp': (rfp, pictures),
    'around':
    (around, lambda: torch.randn(2, CHANNELS, 9, 9, dtype=torch.float64)),
}
# Of the inner unit, seen from the outer one.
INNER = dict(rfp='rfp_modules.0', around='inside')
both = pytest.mark.parametrize('kind', UNITS)


def lively(module):
    """Give norms and convolutions what training gives them."""
    for part in module.modules():
        if isinstance(part, nn.Conv2d):
            nn.init.normal_(part.weight, 0, 0.1)
        if isinstance(part, _BatchNorm):
            nn.init.uniform_(part.weight, 0.5, 1)
            nn.init.normal_(part.bias, 0, 0.1)
            part.running_var.uniform_(0.5, 2)
    return module.double()


def load(module, state_dict):
    load_state_dict(module, state_dict, strict=True, logger='silent')
    return module


def answers(module, x):
    module.eval()
    with torch.no_grad():
        found = module(x)
    return [found] if isinstance(found, torch.Tensor) else found


def assert_same(ours, theirs, x):
    for found, expected in zip(answers(ours, x), answers(theirs, x)):
        assert relative_error(found, expected) < 1e-12


@both
def test_both_share_by_themselves(kind):
    build, _ = UNITS[kind]
    unit = build(share=True)
    inner = unit.get_submodule(INNER[kind])
    inside = set(inner.modules())
    children = children_of(unit).values()
    assert {child in inside for child in children} == {True, False}
    assert all(
        (child in inside) == (child.parent in inside) for child in children)


@both
@pytest.mark.parametrize(
    'options',
    [dict(share=False), dict(keep_own_kernel=True)])
def test_own_kernels_are_exact(kind, options):
    build, inputs = UNITS[kind]
    theirs, x = lively(build()), inputs()
    ours = load(build(**options).double(), theirs.state_dict())
    assert_same(ours, theirs, x)
    ours = build(**options).double()
    ours.load_state_dict(theirs.state_dict())
    assert_same(ours, theirs, x)


@both
def test_shared_at_once_each_takes_what_it_would_take_alone(kind):
    build, inputs = UNITS[kind]
    plain = lively(build()).state_dict()
    ours = build(share=True).double()
    before = copy.deepcopy(ours)
    load(ours, plain)
    inner = INNER[kind]
    # The unit inside, as if there were nothing around it.
    alone = before.get_submodule(inner)
    load(
        alone, {
            key[len(inner) + 1:]: value
            for key, value in plain.items() if key.startswith(f'{inner}.')
        })
    for key, value in ours.get_submodule(inner).state_dict().items():
        assert torch.equal(value, alone.state_dict()[key]), key
    children = children_of(ours)
    for name, module in ours.named_modules():
        if not isinstance(module, nn.Conv2d):
            continue
        kernel = plain[f'{name}.weight']
        if name not in children:
            # Hidden channels may come in another order.
            assert torch.equal(module.weight.flatten().sort().values,
                               kernel.flatten().sort().values), name
            continue
        assert torch.equal(module.parent.weight,
                           plain[f'{parents_of(ours)[name]}.weight'])
        # The gate is 0.5.
        norms = module.kernel().detach().flatten(1).norm(dim=1)
        torch.testing.assert_close(norms.sort().values / 2,
                                   kernel.flatten(1).norm(dim=1).sort().values)


def parents_of(unit):
    return {row.name: row.parent for row in sharing_table(unit) if row.parent}


@both
def test_a_table_names_parents_in_the_outer_unit(kind):
    unit = UNITS[kind][0](share=True)
    inner = INNER[kind]
    parents = parents_of(unit)
    assert parents.keys() == children_of(unit).keys()
    for child, parent in parents.items():
        assert unit.get_submodule(parent) is unit.get_submodule(child).parent
        assert child.startswith(inner) == parent.startswith(inner)


@both
@pytest.mark.parametrize('options', [
    dict(share=True),
    dict(share=False),
    dict(keep_own_kernel=True),
    dict(modulation=()),
])
def test_saving_and_loading(kind, options):
    build, inputs = UNITS[kind]
    ours, x = randomize(build(**options)).double(), inputs()
    again = load(build(**options).double(), ours.state_dict())
    assert_same(again, ours, x)
    for key, value in ours.state_dict().items():
        assert torch.equal(again.state_dict()[key], value), key


@both
def test_own_kernels_end_where_the_checkpoints_have(kind):
    build, inputs = UNITS[kind]
    ended = load(
        build(keep_own_kernel=True).double(),
        lively(build()).state_dict())
    for child in children_of(ended).values():
        child.drop_own_weight()
    ours = load(build(keep_own_kernel=True).double(), ended.state_dict())
    assert not any('own_weight' in key for key in ours.state_dict())
    assert_same(ours, ended, inputs())


def test_weights_of_the_inner_unit_alone():
    plain = lively(around())
    ours = around(share=False).double()
    before = copy.deepcopy(ours.state_dict())
    weights = {
        key: value
        for key, value in plain.state_dict().items() if key.startswith('in')
    }
    ours.load_state_dict(weights, strict=False)
    x = torch.randn(2, CHANNELS, 9, 9, dtype=torch.float64)
    with torch.no_grad():
        assert relative_error(ours.inside(x), plain.inside(x)) < 1e-12
    for key, value in ours.state_dict().items():
        if key.startswith('stage'):
            assert torch.equal(value, before[key])
