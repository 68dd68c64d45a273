"""What of a network is reconstructed at once."""
import pytest
import torch
from torch import nn

from mmkdna.reconstruction.parts import find_parts
from tests.test_reconstruction.networks import forward, networks, pictures
from tests.utils import children_of


def parts_of(name):
    _, ours = networks(name)
    with torch.no_grad():
        parts, left_out = find_parts(ours,
                                     lambda: forward(ours, pictures(2, name)))
    # Every child is in one of them.
    found = [child for part in parts for child in part.children]
    assert sorted(found) == sorted(children_of(ours)) and not left_out
    assert not any(m._forward_hooks for m in ours.modules())
    return {part.name: (len(part.children), part.calls) for part in parts}


@pytest.mark.parametrize('name, expected', [
    ('bottleneck', dict(layer3=(3, 1), layer4=(1, 1))),
    ('inverted',
     dict(
         layer3=(1, 1),
         layer4=(2, 1),
         layer5=(1, 1),
         layer6=(1, 1),
         layer7=(0, 1),
         conv2=(0, 1))),
])
def test_stages_and_what_follows_them(name, expected):
    assert parts_of(name) == expected


def test_what_reads_the_part_before_it():
    _, ours = networks('inverted')
    with torch.no_grad():
        parts, _ = find_parts(ours, lambda: forward(ours, pictures(2)))
    assert [part.is_next for part in parts] == [False] + [True] * 5
    _, ours = networks('head')
    with torch.no_grad():
        parts, _ = find_parts(ours, lambda: forward(ours, pictures(2, 'head')))
    first = {'cls_convs.0', 'reg_convs.0', 'retina_reg', 'retina_cls'}
    assert {part.name for part in parts if not part.is_next} <= first


@pytest.mark.parametrize(
    'between, is_next',
    [
        (lambda x: x, True),
        (lambda x: x + 1, False),
        # In place.
        (lambda x: x.add_(1), False),
    ])
def test_what_is_between_two_parts(between, is_next):
    _, ours = networks('bottleneck')

    class Net(nn.Module):
        """Two stages."""

        def __init__(self):
            super().__init__()
            self.layer3, self.layer4 = ours.layer3, ours.layer4

        def forward(self, x):
            return self.layer4(between(self.layer3(x)))

    net = Net()
    with torch.no_grad():
        parts, _ = find_parts(net, lambda: net(torch.randn(1, 64, 8, 8)))
    assert [part.is_next for part in parts] == [False, is_next]


def test_basic_blocks():
    parts = parts_of('basic')
    assert set(parts) >= {'layer3', 'layer4'}
    assert all(calls == 1 for _, calls in parts.values())


def test_a_convnext():
    assert parts_of('convnext')['stages.2'][0] > 0


def test_layers_of_a_neck():
    parts = parts_of('fpn')
    children = {name for name, (number, _) in parts.items() if number}
    assert children and all('fpn_convs.' in name for name in children)


def test_a_tower_is_called_for_each_level():
    parts = parts_of('head')
    children = {name: c for name, (c, _) in parts.items() if c}
    assert children == {
        f'{tower}_convs.{i}': 1
        for tower in ('cls', 'reg')
        for i in range(2)
    }
    # All layers of both towers, and what follows them.
    assert set(parts) == {
        f'{tower}_convs.{i}'
        for tower in ('cls', 'reg')
        for i in range(3)
    } | {'retina_cls', 'retina_reg'}
    assert all(calls == 3 for _, calls in parts.values())


def test_what_maps_no_tensor_to_one_is_left_out():
    _, ours = networks('bottleneck')
    layer3 = ours.layer3

    class Pair(nn.Module):
        """A stage that takes and gives two."""

        def __init__(self, stage):
            super().__init__()
            self.stage = stage

        def forward(self, x):
            for block in self.stage:
                y = block.conv1(x)
                x = block(x) + 0 * y.mean()
            return x, y

    pair = Pair(layer3)
    with torch.no_grad():
        parts, left_out = find_parts(pair,
                                     lambda: pair(torch.randn(1, 64, 8, 8)))
    # The stage itself is not called, its blocks are.
    assert [part.name for part in parts if part.children] == \
        ['stage.1', 'stage.3', 'stage.5']
    assert not left_out
    parts, left_out = find_parts(pair, lambda: None)
    assert not parts and left_out == list(children_of(pair))
