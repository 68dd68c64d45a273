"""The links that could be made."""
import pytest
import torch
from torch import nn

from mmkdna.planning import count_parameters, find_candidates
from tests.utils import make_module

WIDE = 16


def pairs(convs, **options):
    model = nn.ModuleDict(dict(unit=make_module(convs, **options)))
    return {(one.child, one.parent)
            for one in find_candidates(model, ['unit'])}


def test_kin_share_in_both_directions():
    conv = WIDE, WIDE, 3
    assert pairs({
        'a.0': conv,
        'a.1': conv,
        'b.0': conv,
        'a.2': (WIDE, WIDE, 1),
        'a.downsample.0': conv
    }) == {('a.0', 'a.1'), ('a.1', 'a.0')}


def test_what_saves_nothing_is_no_child():
    # A gate has more parameters than a depthwise kernel.
    conv = WIDE, WIDE, 3, dict(groups=WIDE)
    assert not pairs({'a.0': conv, 'a.1': conv})
    # A gate without channels cannot be made.
    conv = 2, 2, 3
    assert not pairs({'a.0': conv, 'a.1': conv})
    assert pairs({'a.0': conv, 'a.1': conv}, modulation=('spatial', ))


def test_saved_is_what_sharing_saves():
    conv = WIDE, WIDE, 3
    model = nn.ModuleDict(dict(unit=make_module({'a.0': conv, 'a.1': conv})))
    one, _ = find_candidates(model, ['unit', 'none'])
    # Filters, positions, and a gate of 4 channels.
    adapter = 16 + 9 + 16 * 4 + 2 * 4 + 4 * 16 + 16
    assert one.saved == 16 * 16 * 9 - adapter
    assert count_parameters(model) == 2 * (16 * 16 * 9 + 16)


@torch.no_grad()
def test_of_many_kin_neighbours_the_nearest_and_the_last():
    model = nn.ModuleDict(
        dict(unit=make_module({f'a.{i}': (WIDE, WIDE, 3)
                               for i in range(8)})))
    convs = model['unit'].a
    # In no block that is known, so that nothing is permuted.
    convs.get_submodule('1').weight.copy_(convs.get_submodule('5').weight)
    found = {}
    for one in find_candidates(model, ['unit']):
        found.setdefault(one.child, set()).add(one.parent)
    assert found['a.1'] == {'a.0', 'a.2', 'a.5', 'a.7'}
    assert found['a.5'] == {'a.4', 'a.6', 'a.1', 'a.7'}
    assert found['a.0'] >= {'a.1', 'a.7'}
    assert sorted(found) == [f'a.{i}' for i in range(7)]


@torch.no_grad()
@pytest.mark.parametrize('other', ['a.downsample.0', 'b.0'])
def test_what_is_no_kin_is_never_the_nearest(other):
    """A shortcut and another stage, with the very kernel."""
    names = [f'a.{i}' for i in range(8)]
    # What stands directly in the unit is of a stage, too.
    if other == 'b.0':
        names = [f'a{i}' for i in range(8)]
    unit = make_module({name: (WIDE, WIDE, 3) for name in [*names, other]})
    unit.get_submodule(names[1]).weight.copy_(unit.get_submodule(other).weight)
    unit.get_submodule(
        names[5]).weight.copy_(unit.get_submodule(other).weight + 1e-3)
    found = {
        one.parent
        for one in find_candidates(nn.ModuleDict(dict(unit=unit)), ['unit'])
        if one.child == names[1]
    }
    assert found == {names[0], names[2], names[5], names[7]}


@pytest.mark.parametrize('number', [6, 7])
def test_all_but_one_can_be_children(number):
    found = pairs({f'a.{i}': (WIDE, WIDE, 3) for i in range(number)})
    everyone = {f'a.{i}' for i in range(number)}
    last = f'a.{number - 1}'
    assert {child
            for child, parent in found if parent == last} == everyone - {last}
