"""Ordinary pretrained weights of a ConvNeXt, whose matrices become kernels."""
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from mmkdna.hosts import block_layers
from mmkdna.pretrained.alignment import _permute, align_blocks, hidden_channels
from tests.test_backbones.test_convnext import (SMALL, answers, build,
                                                links_of, lively)
from tests.utils import children_of, relative_error

# Blocks with children, in the order of stages.
ALIGNED = ['stages.2.1', 'stages.2.3', 'stages.3.1']
V2 = dict(use_grn=True, layer_scale_init_value=0.)


def images():
    return torch.randn(2, 3, 64, 64, dtype=torch.float64)


def block_of(name):
    return '.'.join(name.split('.')[:3])


def kernels(net):
    """Weights of a net of the host, as convolutions have them."""
    return {
        key:
        value[:, :, None,
              None] if value.dim() == 2 and 'point' in key else value
        for key, value in net.state_dict().items()
    }


def parts(model):
    modules = dict(model.named_modules())
    blocks = {name: block_layers(name, m) for name, m in modules.items()}
    return modules, {n: layers for n, layers in blocks.items() if layers}


def test_by_init_cfg_in_a_classifier(tmp_path):
    """The classifier's own init_cfg runs over the adapters before."""
    theirs = lively(build(kind='ConvNeXt'))
    weights = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    weights['head.fc.weight'] = torch.randn(1000, 32)
    torch.save(dict(state_dict=weights), tmp_path / 'plain.pth')
    model = MODELS.build(
        dict(
            type='mmpretrain.ImageClassifier',
            backbone=dict(
                type='mmpretrain.KernelDNAConvNeXt',
                arch=SMALL,
                init_cfg=dict(
                    type='Pretrained',
                    checkpoint=str(tmp_path / 'plain.pth'),
                    prefix='backbone.')),
            head=dict(
                type='mmpretrain.LinearClsHead', num_classes=9,
                in_channels=32),
            init_cfg=dict(
                type='TruncNormal',
                layer=['Conv2d', 'Linear'],
                std=.02,
                bias=0.)))
    model.init_weights()
    expected = kernels(theirs)
    ours = model.backbone.state_dict()
    children = children_of(model.backbone)
    for name, value in expected.items():
        if block_of(name) in ALIGNED and 'pointwise' in name:
            continue
        assert torch.equal(ours[name].view_as(value), value), name
    for name, conv in children.items():
        gate = conv.adapter.gate(torch.randn(3, conv.in_channels, 5, 5))
        assert torch.equal(gate, torch.full_like(gate, 0.5))
        norms = conv.kernel().detach().flatten(1).norm(dim=1)
        theirs_norms = expected[f'{name}.weight'].flatten(1).norm(dim=1)
        torch.testing.assert_close(norms.sort().values,
                                   2 * theirs_norms.sort().values)


@pytest.mark.parametrize('arguments', [dict(), V2])
def test_aligning_changes_no_output(arguments):
    theirs = lively(build(kind='ConvNeXt', linear_pw_conv=False,
                          **arguments)).double()
    x = images()
    before, = answers(theirs, x)
    weights = dict(theirs.state_dict())
    ours = build(**arguments)
    align_blocks(weights, *parts(ours), links_of(ours))
    changed = {
        key
        for key, value in theirs.state_dict().items()
        if not torch.equal(value, weights[key])
    }
    assert sorted({block_of(key) for key in changed}) == ALIGNED
    hidden = ['pointwise_conv1.weight', 'pointwise_conv1.bias']
    hidden += ['grn.gamma', 'grn.beta'] if arguments else []
    hidden += ['pointwise_conv2.weight']
    assert changed == {f'{b}.{key}' for b in ALIGNED for key in hidden}
    theirs.load_state_dict(weights)
    assert relative_error(answers(theirs, x)[0], before) < 1e-12


@pytest.mark.parametrize('arguments', [dict(), V2])
def test_a_permuted_and_scaled_copy_is_found(arguments):
    theirs = lively(build(kind='ConvNeXt', **arguments)).double()
    ours = build(**arguments).double()
    weights = dict(theirs.state_dict())
    modules, blocks = parts(ours)
    for child, parent in links_of(ours).items():
        kernel = weights[f'{parent}.weight']
        scale = torch.rand(len(kernel), 1).double() + 0.5
        weights[f'{child}.weight'] = kernel * scale
    for block in ALIGNED:
        hidden, = hidden_channels(blocks[block], modules)
        channels = len(weights[f'{hidden.producer.conv}.weight'])
        _permute(weights, hidden, torch.randperm(channels))
    theirs.load_state_dict(weights)
    load_state_dict(ours, weights, strict=True, logger='silent')
    fits = ours.plain_report.fits
    assert len(fits) == 6
    assert max(fit.error for fit in fits) < 1e-6
    ours.eval()
    x = images()
    assert relative_error(answers(ours, x)[0], answers(theirs, x)[0]) < 1e-6


def test_a_kept_kernel_computes_what_the_matrix_did():
    theirs = lively(build(kind='ConvNeXt')).double()
    ours = build(
        conv_cfg=dict(type='KernelDNA', keep_own_kernel=True)).double()
    load_state_dict(ours, theirs.state_dict(), strict=True, logger='silent')
    ours.eval()
    x = images()
    assert relative_error(answers(ours, x)[0], answers(theirs, x)[0]) < 1e-10


@pytest.mark.parametrize('stages', [(), (3, 4)])
def test_a_checkpoint_from_with_linear_layers_elsewhere(stages):
    """With adapters in it or without, and in stages that do not share."""
    trained = lively(build(sharing_stages=stages)).double()
    ours = build(sharing_stages=stages, linear_pw_conv=False).double()
    assert type(ours.stages[0][0].pointwise_conv1) is nn.Conv2d
    ours.load_state_dict(trained.state_dict(), strict=True)
    ours.eval()
    x = images()
    assert relative_error(answers(ours, x)[0], answers(trained, x)[0]) < 1e-12


def test_matrices_of_another_width_are_reported():
    wider = build(dict(SMALL, channels=[8, 16, 24, 40]), kind='ConvNeXt')
    with pytest.raises(RuntimeError) as error:
        build().load_state_dict(wider.state_dict())
    for block, shapes in ((1, '(160, 40, 1, 1) is given, (128, 32, 1, 1)'),
                          (2, '[160, 40, 1, 1]')):
        message = f'stages.3.{block}.pointwise_conv1.weight'
        line, = (
            text for text in str(error.value).split('\n\t') if message in text)
        assert 'size mismatch' in line and shapes in line
