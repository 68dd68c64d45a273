"""Who shares with whom: patterns, stages, options."""
import copy

import pytest
import torch
from mmengine.analysis import get_model_complexity_info
from mmengine.model.utils import revert_sync_batchnorm
from torch import nn

from mmkdna import KernelDNAConv2d, Link, link_kernels
from tests.utils import children_of, kernel_dna, make_kin, make_module, pattern

SAME = (8, 8, 3)


def linked(convs, **options):
    module = make_module(convs, **options)
    link_kernels(module)
    return module


def numbered(number, stage='layer1'):
    return {f'{stage}.{i}': SAME for i in range(number)}


@pytest.mark.parametrize('number, expected', [
    (1, '-'),
    (2, 'S F'),
    (3, 'S S F'),
    (4, 'S F S F'),
    (5, 'S S F S F'),
    (6, 'S F S F S F'),
])
def test_a_parent_serves_one_child_and_the_first_the_odd_one(number, expected):
    module = linked(numbered(number))
    assert pattern(module) == expected
    convs = list(kernel_dna(module).values())
    for i, conv in enumerate(convs):
        if conv.role == 'child':
            parent = next(c for c in convs[i:] if c.role == 'parent')
            assert conv.parent is parent


@pytest.mark.parametrize('per_parent, expected', [
    (2, 'S S F S S F'),
    (3, 'S S S S S F'),
    (4, 'S S S S S F'),
    (9, 'S S S S S F'),
    (None, 'S S S S S F'),
])
def test_children_per_parent(per_parent, expected):
    module = linked(numbered(6), children_per_parent=per_parent)
    assert pattern(module) == expected


def test_links_are_returned_and_a_second_call_links_nothing():
    module = make_module({**numbered(4), **numbered(2, 'layer2')})
    links = link_kernels(module)
    assert links == [
        Link('layer1.0', 'layer1.1'),
        Link(child='layer1.2', parent='layer1.3'),
        Link('layer2.0', 'layer2.1')
    ]
    before = {name: id(p) for name, p in module.named_parameters()}
    assert link_kernels(module) == []
    assert {name: id(p) for name, p in module.named_parameters()} == before
    assert link_kernels(nn.Linear(2, 2)) == []


def test_what_was_linked_alone_is_not_linked_again_in_a_larger_module():
    parts = nn.ModuleList(
        [make_module(numbered(1), stage_level=0) for _ in range(2)])
    for part in parts:
        link_kernels(part)
    assert link_kernels(parts) == []
    assert pattern(parts) == '- -'


@pytest.mark.parametrize('other', [
    (8, 8, 5),
    (8, 16, 3),
    (16, 8, 3),
    (8, 8, (3, 1)),
    (16, 8, 3, dict(groups=2)),
])
def test_another_shape_is_no_kin(other):
    module = linked({'s.0': SAME, 's.1': other}, grouped=True)
    assert pattern(module) == '- -'


@pytest.mark.parametrize('further', [
    dict(stride=2),
    dict(dilation=2),
    dict(bias=False),
    dict(padding='same', padding_mode='circular'),
])
def test_stride_dilation_padding_and_bias_may_differ(further):
    assert pattern(linked({'s.0': SAME, 's.1': (*SAME, further)})) == 'S F'


def test_other_options_are_no_kin():
    module = make_module({'s.0': SAME})
    for i, options in enumerate((dict(), dict(rd_ratio=0.5), dict())):
        module.s.add_module(str(i), KernelDNAConv2d(*SAME, **options))
    link_kernels(module)
    assert pattern(module) == 'S - F'


def test_a_stage_is_a_direct_child():
    names = ('layer1.0.conv2', 'layer1.1.conv2', 'layer2.0.conv2', 'conv1')
    module = linked(dict.fromkeys(names, SAME))
    assert pattern(module) == 'S F - -'
    child = module.get_submodule('layer1.0.conv2')
    assert child.parent_name == 'layer1.1.conv2'


@pytest.mark.parametrize('level, expected', [
    (0, 'S F S F S F'),
    (1, 'S F S F - -'),
    (2, 'S F - - - -'),
])
def test_stage_level(level, expected):
    names = ('a.0.0', 'a.0.1', 'a.1.0', 'a.2.0', 'b.0.0', 'c.0.0')
    module = linked(dict.fromkeys(names, SAME), stage_level=level)
    assert pattern(module) == expected


def test_by_default_every_dense_conv_larger_than_1x1_shares():
    sizes = (1, 1, 2, 2, (1, 7), (1, 7), 5, 5)
    module = linked({f's.{i}': (8, 8, s) for i, s in enumerate(sizes)})
    assert pattern(module) == '- - S F S F S F'


@pytest.mark.parametrize('kernel_sizes, expected', [
    (None, '- - S F S F'),
    ((1, ), 'S F - - - -'),
    ((1, 3), 'S F S F - -'),
    (((1, 7), ), '- - - - S F'),
    ([[3, 3], 1, [1, 7]], 'S F S F S F'),
])
def test_kernel_sizes(kernel_sizes, expected):
    sizes = (1, 1, 3, 3, (1, 7), (1, 7))
    module = linked({
        f's.{i}': (8, 8, s)
        for i, s in enumerate(sizes)
    },
                    kernel_sizes=kernel_sizes)
    assert pattern(module) == expected


@pytest.mark.parametrize('least, expected', [
    (0, 'S F S F S F'),
    (8, 'S F S F S F'),
    (9, '- - - - S F'),
])
def test_min_channels(least, expected):
    shapes = ((8, 16, 3), (8, 16, 3), (16, 8, 3), (16, 8, 3), (16, 16, 3),
              (16, 16, 3))
    module = linked({
        f's.{i}': shape
        for i, shape in enumerate(shapes)
    },
                    min_channels=least)
    assert pattern(module) == expected


def test_name_pattern():
    names = {f'layer{i}.{j}': SAME for i in (1, 2, 3, 4) for j in (0, 1)}
    assert pattern(linked(names, name_pattern='layer3|layer4')) == \
        '- - - - S F S F'
    assert pattern(linked(names, name_pattern=r'\.0$', stage_level=0)) == \
        'S - F - S - F -'


@pytest.mark.parametrize('grouped, expected', [(False, '- - - - S F'),
                                               (True, 'S F S F S F')])
def test_grouped(grouped, expected):
    groups = (2, 2, 8, 8, 1, 1)
    module = linked(
        {
            f's.{i}': (8, 8, 3, dict(groups=g))
            for i, g in enumerate(groups)
        },
        grouped=grouped)
    assert pattern(module) == expected


@pytest.mark.parametrize('shortcut', ['downsample', 'shortcut'])
@pytest.mark.parametrize('shortcuts, expected', [(False, '- S F'),
                                                 (True, 'S S F')])
def test_shortcuts(shortcut, shortcuts, expected):
    names = (f'layer1.0.{shortcut}.0', 'layer1.0.conv1', 'layer1.1.conv1')
    module = linked(dict.fromkeys(names, SAME), shortcuts=shortcuts)
    assert pattern(module) == expected


def test_transposed_convs_are_none_of_ours():
    module = nn.Sequential(
        nn.Sequential(nn.ConvTranspose2d(8, 8, 3), nn.Conv2d(8, 8, 3)))
    assert link_kernels(module) == []


def test_conversion_of_sync_bn_leaves_links_valid():
    module = make_kin(3, norm_cfg=dict(type='SyncBN'))
    reverted = revert_sync_batchnorm(module)
    converted = nn.SyncBatchNorm.convert_sync_batchnorm(copy.deepcopy(module))
    for changed in (reverted, converted):
        assert pattern(changed) == 'S S F'
        for child in children_of(changed).values():
            assert child.parent is changed[0][2]
    assert reverted(torch.randn(2, 8, 4, 4)).isfinite().all()


def test_counting_flops_leaves_links_valid():
    module = make_kin(3)
    counted = get_model_complexity_info(
        module, (8, 10, 10), show_table=False, show_arch=False)
    assert pattern(module) == 'S S F'
    # A child costs what a plain convolution does, and two small layers.
    convs, gates = 3 * 8 * 8 * 9 * 10 * 10, 2 * (8 * 2 + 2 * 8)
    assert counted['flops'] - convs - gates <= 2 * 2 * 2  # the gates' norms
    assert counted['params'] == sum(p.numel() for p in module.parameters())


def test_links_by_name_are_the_only_ones():
    """Over stages, to a parent of two, before it and after it, also 1x1."""
    convs = {
        **numbered(3),
        **numbered(2, 'layer2'), 'layer3.0': (8, 8, 1),
        'layer4.0': (8, 8, 1)
    }
    given = {
        'layer1.0': 'layer1.2',
        'layer2.1': 'layer1.2',
        'layer4.0': 'layer3.0'
    }
    module = make_module(convs, links=given)
    assert link_kernels(module) == [Link(*link) for link in given.items()]
    assert {n: c.parent_name for n, c in children_of(module).items()} == given
    assert kernel_dna(module)['layer1.1'].role == 'plain'
    assert kernel_dna(module)['layer1.2'].num_children == 2


def test_a_pattern_links_all_that_it_matches_whole():
    further = 'layer1.10', 'my.layer1.0'
    convs = {
        **numbered(3),
        **numbered(2, 'layer2'),
        **dict.fromkeys(further, (8, 8, 3))
    }
    given = {r'layer1\.[01]': 'layer1.2', r'layer2.\d|none': 'layer1.2'}
    module = make_module(convs, links=given)
    names = ['layer1.0', 'layer1.1', 'layer2.0', 'layer2.1']
    assert link_kernels(module) == [Link(name, 'layer1.2') for name in names]
    for name in further:
        assert module.get_submodule(name).role == 'plain'


def test_a_parent_has_what_a_group_of_the_pattern_matches():
    convs = {**numbered(3), **numbered(3, 'layer2'), **numbered(2, 'layer3')}
    given = {
        r'(layer1|layer2)\.[01]': r'\1.2',
        r'(?P<stage>layer3)\.0': r'\g<stage>.1'
    }
    module = make_module(convs, links=given)
    assert link_kernels(module) == [
        Link('layer1.0', 'layer1.2'),
        Link('layer1.1', 'layer1.2'),
        Link('layer2.0', 'layer2.2'),
        Link('layer2.1', 'layer2.2'),
        Link('layer3.0', 'layer3.1')
    ]


def test_a_name_is_no_pattern():
    # A name that is there is itself, whatever it would match.
    convs = {'a+': (8, 8, 3), 'aa': (8, 8, 3), 'b': (8, 8, 3)}
    module = make_module(convs, links={'a+': 'b'})
    assert link_kernels(module) == [Link('a+', 'b')]
    # Of one that is not there, a dot matches no other character.
    convs = {**numbered(2), 'layer1_3': (8, 8, 3)}
    module = make_module(convs, links={'layer1.3': 'layer1.0'})
    with pytest.raises(ValueError, match='layer1.3 is none of the 3'):
        link_kernels(module)


@pytest.mark.parametrize('links, error', [
    ({
        r'layer3\..*': 'layer1.0'
    }, r'layer3\\..* is none of the 3 conv.* patterns match whole names'),
    ({
        'layer1': 'layer1.0'
    }, 'layer1 is none of the 3 convolutions'),
    ({
        r'layer1\.(0|1)': 'layer1.1'
    }, r"layer1.1, a child by 'layer1\\\\.\(0|1\)', is a parent, too"),
    ({
        r'layer[1]\.0': 'layer1.1',
        r'layer1\.0|none': 'layer1.1'
    }, 'layer1.0 is a child by .* and by .*: one entry for each'),
    ({
        'layer1.0': 'layer1.1',
        '.*0': 'layer1.1'
    }, "layer1.0 is a child by 'layer1.0' and by '.[*]0': one"),
    ({
        r'layer.\.0': 'layer1.1'
    }, 'layer2.0 has a kernel of shape .8, 8, 1, 1. and groups=1'),
    ({
        'layer1.0': 'layer1.7'
    }, 'layer1.7 is none of the 3 convolutions'),
    ({
        'layer1.0': 'layer2.0'
    }, 'layer2.0 of .8, 8, 1, 1. and groups=1'),
    ({
        r'(layer1)\.(0|1)': r'\1.1'
    }, 'layer1.1, a child by .*, is a parent, too'),
    ({
        r'layer(1)\.0': r'layer\1.7'
    }, 'layer1.7 is none of the 3 convolutions'),
    ({
        r'layer(1)\.0': r'layer\2.1'
    }, r"'layer\\\\2.1' cannot be read as the parent of .*: invalid group"),
    ({
        r'layer(1)\.0': r'layer\g<stage>.1'
    }, 'cannot be read as the parent of .*: .*stage'),
    ({
        'layer1.0': r'layer\1.1'
    }, r'layer\\1.1 is none of the 3 convolutions'),
])
def test_links_to_what_cannot_share(links, error):
    module = make_module({**numbered(2), 'layer2.0': (8, 8, 1)}, links=links)
    with pytest.raises(ValueError, match=error):
        link_kernels(module)
    assert not any(conv.linked for conv in kernel_dna(module).values())


def test_links_to_a_kernel_that_is_computed():
    module = make_module(numbered(2), links={'layer1.0': 'layer1.1'})
    nn.utils.spectral_norm(module.layer1.get_submodule('1'))
    with pytest.raises(ValueError, match='layer1.1 is computed at each forw'):
        link_kernels(module)


@torch.no_grad()
def test_a_child_without_a_gate_beside_those_with_one():
    module = linked(numbered(4), ungated=['layer1.2'])
    first, second = children_of(module).values()
    assert first.adapter.gate is not None
    assert second.adapter.gate is None and second.adapter.filter is not None
    x = torch.randn(2, 8, 5, 5)
    torch.testing.assert_close(
        second(x), nn.functional.conv2d(x, second.parent.weight, second.bias))


def test_only_a_child_can_be_without_a_gate():
    module = make_module(numbered(2), ungated=['layer1.1'])
    with pytest.raises(
            ValueError, match='layer1.1 is no child here: those '
            'are layer1.0'):
        link_kernels(module)
