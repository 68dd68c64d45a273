"""What weights lack: whole blocks behind a stage, or all but a few tensors."""
import pytest
import torch
from torch import nn

from tests.test_pretrained.test_plain import (answer_of, build, lively, load,
                                              resnet)
from tests.utils import children_of, randomize

pytest.importorskip('mmpretrain')
STARTS = 'that start as the identity: '


def small(depth=18, **arguments):
    return resnet(depth, base_channels=8, stem_channels=8, **arguments)


def plain(depth=18):
    return lively(small(depth, sharing_stages=())).state_dict()


def without(weights, *prefixes):
    return {k: v for k, v in weights.items() if not k.startswith(prefixes)}


def new_blocks(said):
    return said().split(STARTS)[1].split('\n')[0] if STARTS in said() else ''


@pytest.mark.parametrize(
    'depth, cut, expected',
    [
        (18, ['layer3.2.'], 'layer3.2'),
        (18, ['layer3.2.', 'layer4.2.'], 'layer3.2, layer4.2'),
        (50, ['layer3.6.'], 'layer3.6'),
        (50, ['layer3.5.', 'layer3.6.'], 'layer3.5, layer3.6'),
        (50, ['layer3.4.', 'layer3.5.', 'layer3.6.'
              ], 'layer3.4, layer3.5, layer3.6'),
        (18, ['layer1.', 'layer3.2.'], 'layer3.2'),
        # A counter of batches is no weight: old checkpoints have none.
        (18, ['layer3.2.', 'layer3.0.bn1.num_batches_tracked'], 'layer3.2'),
        # As many new blocks as known ones are another network's.
        (18, ['layer1.1.'], ''),
        (50, [f'layer3.{i}.' for i in range(3, 7)], ''),
        # Not the last.
        (18, ['layer3.1.'], ''),
        # A stage that is not complete before.
        (18, ['layer3.2.', 'layer3.1.conv1.weight'], ''),
        (18, ['layer3.2.', 'layer3.1.bn2.bias'], ''),
        (18, ['layer3.2.', 'layer3.1.bn2.running_var'], ''),
        (18, ['layer3.2.', 'layer3.0.downsample.0.weight'], ''),
        (18, ['layer3.2.', 'layer3.0.downsample.1.weight'], ''),
        # Something of the block itself is there.
        (18, ['layer3.2.conv', 'layer3.2.bn1'], ''),
    ])
def test_blocks_that_start_as_the_identity(depth, cut, expected, said):
    ours = small(depth)
    load(ours, without(plain(depth), *cut))
    assert new_blocks(said) == expected
    norm = 'bn2' if depth == 18 else 'bn3'
    zero = [
        name for name, module in ours.named_modules()
        if name.endswith(norm) and not module.weight.detach().any()
    ]
    assert ', '.join(name.rpartition('.')[0] for name in zero) == expected


def test_kernels_of_another_shape_do_not_complete_a_stage(said):
    weights = without(plain(), 'layer3.2.')
    weights['layer3.1.conv2.weight'] = torch.zeros(32, 32, 1, 1)
    load(small(), weights)
    assert not new_blocks(said)


@pytest.mark.parametrize('norm, lacks, expected', [
    ('GN', (), 'layer3.2'),
    ('GN', ('layer3.0.gn1.bias', ), ''),
])
def test_group_norms(norm, lacks, expected, said):
    norm_cfg = dict(type=norm, num_groups=2)
    weights = small(sharing_stages=(), norm_cfg=norm_cfg).state_dict()
    load(small(norm_cfg=norm_cfg), without(weights, 'layer3.2.', *lacks))
    assert new_blocks(said) == expected


def test_a_dead_stage_and_a_gap_are_left_alone(said):
    """Without its first block a stage would be dead, not the identity."""
    weights = build('KernelDNAMobileNetV2', sharing_stages=()).state_dict()
    model = build('KernelDNAMobileNetV2', sharing_stages=())
    load(model,
         without(weights, 'layer3.0.', 'layer4.2.', 'layer5.2.', 'layer6.'))
    assert new_blocks(said) == 'layer5.2'
    last = {
        name: model.get_submodule(f'layer{name}.conv.2.bn').weight.detach()
        for name in ('3.0', '4.2', '5.2', '6.1')
    }
    assert [name for name, weight in last.items() if not weight.any()] == \
        ['5.2']


def test_the_network_computes_what_the_plain_one_does(said):
    """In the paper's topology, plain and with adapters on own kernels."""
    theirs = lively(
        build('ResNet', depth=50, base_channels=8, stem_channels=8)).double()
    x = torch.randn(2, 3, 48, 48, dtype=torch.float64)
    for options in (
            dict(sharing_stages=()),
            dict(conv_cfg=dict(type='KernelDNA', share=False)),
            dict(conv_cfg=dict(type='KernelDNA', keep_own_kernel=True))):
        ours = small(50, **options).double()
        load(ours, theirs.state_dict())
        torch.testing.assert_close(
            answer_of(ours, x), answer_of(theirs, x), rtol=1e-11, atol=1e-13)
    assert new_blocks(said) == 'layer3.6'


PARTS = {
    'one block':
    lambda key: key.startswith('layer3.0.'),
    'one block that holds a parent':
    lambda key: key.startswith('layer3.1.'),
    'the last block':
    lambda key: key.startswith('layer3.2.'),
    'a child':
    lambda key: key == 'layer3.0.conv2.weight',
    'a parent':
    lambda key: key == 'layer3.1.conv2.weight',
    'a plain kernel':
    lambda key: key == 'layer3.0.conv1.weight',
    'the norms of a stage':
    lambda key: key.startswith('layer3.') and '.bn' in key,
    'the norms of whole blocks':
    lambda key: key.startswith(('layer3.0.bn', 'layer3.1.bn')),
    'the kernels of a stage':
    lambda key: key.startswith('layer3.') and '.conv' in key,
    'all children':
    lambda key: 'conv2' in key and key.startswith('layer3.0'),
}


@pytest.mark.parametrize(
    'options', [
        dict(),
        dict(share=False),
        dict(keep_own_kernel=True),
        dict(modulation=()),
        dict(modulation=(), keep_own_kernel=True),
    ],
    ids=str)
@pytest.mark.parametrize('part', PARTS)
def test_a_part_changes_what_it_mentions(part, options):
    ours = randomize(small(conv_cfg=dict(type='KernelDNA', **options)))
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    weights = {k: v for k, v in plain().items() if PARTS[part](k)}
    assert weights
    load(ours, weights)
    after = ours.state_dict()
    assert after.keys() == before.keys()
    changed = {k for k in after if not torch.equal(after[k], before[k])}
    # A child's kernel becomes its adapter.
    mentioned = tuple(key[:-len('weight')] if key[:-len('.weight')] in
                      children_of(ours) else key for key in weights)
    assert {key for key in changed if not key.startswith(mentioned)} == set()
    # A counter of batches is 0 before and after.
    for key in weights:
        if 'num_batches' not in key and not (options.get('modulation') == ()
                                             and key not in after):
            assert any(k.startswith(key.rpartition('.')[0]) for k in changed)


def test_a_child_without_its_parents_kernel_is_fitted_to_what_that_has():
    ours = small()
    weights = {'layer3.0.conv2.weight': plain()['layer3.0.conv2.weight']}
    load(ours, weights)
    child = ours.layer3[0].conv2
    kernel, = weights.values()
    effective = child.kernel().detach() / 2
    torch.testing.assert_close(
        effective.flatten(1).norm(dim=1),
        kernel.flatten(1).norm(dim=1))
    source = child.parent.weight.detach()
    for found, parents in zip(effective, source):
        # One factor per position of the kernel, and one for the filter.
        ratios = (found / parents).flatten(1)
        torch.testing.assert_close(ratios, ratios[:1].expand_as(ratios))


def test_a_few_weights_of_a_mobilenet_are_not_shifted():
    weights = build('KernelDNAMobileNetV2', sharing_stages=()).state_dict()
    model = build('KernelDNAMobileNetV2')
    before = {k: v.clone() for k, v in model.state_dict().items()}
    # In the order of the layers, the second would be that of conv1's norm.
    part = {
        key: nn.init.normal_(weights[key].clone())
        for key in ('conv1.conv.weight', 'layer1.0.conv.0.bn.weight')
    }
    load(model, part)
    for key, value in model.state_dict().items():
        assert torch.equal(value, part.get(key, before[key])), key
