"""Blocks with children, fitted on images."""
import weakref

import numpy as np
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdna.pretrained.fitting import (RIDGE, Moments, fit_children,
                                       training_inputs)
from tests.utils import children_of, relative_error

NETWORKS = {
    # The 3x3 are children, a plain 1x1 reads them.
    'bottleneck':
    dict(type='mmpretrain.KernelDNAResNet', depth=50, base_channels=8),
    # The expansions alone.
    'inverted':
    dict(type='mmdet.KernelDNAMobileNetV2', widen_factor=0.5),
}
CONV_CFG = dict(
    bottleneck=dict(type='KernelDNA'),
    inverted=dict(type='KernelDNA', name_pattern=r'\.(?!0\.)\d+\.expand_conv'))
FITTED = dict(
    bottleneck=['layer3.1', 'layer3.3', 'layer3.5', 'layer4.1'],
    inverted=['layer3.1', 'layer4.1', 'layer4.2', 'layer5.1', 'layer6.1'])
LAST = dict(
    bottleneck=('conv3', 'bn3'),
    inverted=('linear_conv.conv', 'linear_conv.bn'))


def networks(network):
    """The plain network, and ours with its weights and own kernels kept."""
    pytest.importorskip(NETWORKS[network]['type'].partition('.')[0])
    theirs = MODELS.build(dict(NETWORKS[network], sharing_stages=()))
    for module in theirs.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.3)
    # Statistics that belong to the weights.
    theirs.train()
    with torch.no_grad():
        for _ in range(20):
            theirs(pictures(4))
    theirs.eval()
    ours = MODELS.build(
        dict(
            NETWORKS[network],
            conv_cfg=dict(CONV_CFG[network], keep_own_kernel=True)))
    load_state_dict(ours, theirs.state_dict(), strict=True, logger='silent')
    ours.eval()
    return theirs, ours


def pictures(number):
    """Smooth pictures, of different brightness and contrast."""
    coarse = torch.randn(number, 3, 6, 6) * (torch.rand(number, 1, 1, 1) + 0.5)
    return nn.functional.interpolate(coarse, size=48, mode='bilinear')


def error(ours, theirs, inputs):
    with torch.no_grad():
        return relative_error(ours(inputs)[-1], theirs(inputs)[-1])


@pytest.mark.parametrize('network', NETWORKS)
def test_the_error_falls(network):
    theirs, ours = networks(network)
    new = pictures(16)
    assert error(ours, theirs, new) < 1e-5
    for child in children_of(ours).values():
        child.own_share.zero_()
    unfitted = error(ours, theirs, new)
    for child in children_of(ours).values():
        child.own_share.fill_(1)
    explained = fit_children(ours, [pictures(16) for _ in range(4)],
                             ours.forward)
    assert list(explained) == FITTED[network]
    assert all(0 < share <= 1 for share in explained.values())
    fitted = error(ours, theirs, new)
    assert fitted < 0.6 * unfitted


@pytest.mark.parametrize('network', NETWORKS)
def test_what_changes_and_what_does_not(network):
    _, ours = networks(network)
    ours.train()
    first = next(m for m in ours.modules() if isinstance(m, _BatchNorm))
    first.eval()
    norms = [m for m in ours.modules() if isinstance(m, _BatchNorm)]
    for i, norm in enumerate(norms):
        norm.momentum = 0.01 * i
    modes = {name: m.training for name, m in ours.named_modules()}
    hooks = [
        len(m._forward_hooks) + len(m._forward_pre_hooks)
        for m in ours.modules()
    ]
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    inputs = [pictures(4)]
    copy = inputs[0].clone()
    fit_children(ours, inputs, ours.forward)
    assert {name: m.training for name, m in ours.named_modules()} == modes
    assert [norm.momentum for norm in norms] == \
        [0.01 * i for i in range(len(norms))]
    assert hooks == [
        len(m._forward_hooks) + len(m._forward_pre_hooks)
        for m in ours.modules()
    ]
    assert torch.equal(inputs[0], copy)
    after = ours.state_dict()
    assert set(before) - set(after) == {
        f'{name}.{key}'
        for name in children_of(ours)
        for key in ('own_weight', 'own_share')
    }
    changed = {k for k in after if not torch.equal(after[k], before[k])}
    conv, norm = LAST[network]
    last = {f'{block}.{conv}.weight' for block in FITTED[network]}
    allowed = last | {
        f'{block}.{norm}.{key}'
        for block in FITTED[network]
        for key in ('weight', 'bias', 'running_mean', 'running_var')
    }
    inner = {
        key
        for key in changed - allowed
        if key.startswith(tuple(
            f'{b}.' for b in FITTED[network])) and key.rpartition('.')[2] in (
                'running_mean', 'running_var', 'num_batches_tracked')
    }
    assert changed == allowed | inner
    assert not any('adapter' in key for key in inner)
    assert len([k for k in inner if k.endswith('running_mean')]) == \
        2 * len(FITTED[network])
    assert all(p.requires_grad for p in ours.parameters())


def test_statistics_are_estimated_anew():
    _, ours = networks('bottleneck')
    batches = [pictures(4) for _ in range(3)]
    fit_children(ours, batches, ours.forward)
    block = ours.layer3[1]
    seen = []
    handle = block.conv2.register_forward_hook(
        lambda _, args, out: seen.append(out))
    # As when fitting: the norms before took the statistics of each batch.
    block.bn1.train()
    momentum, block.bn1.momentum = block.bn1.momentum, 0
    with torch.no_grad():
        for batch in batches:
            ours(batch)
    handle.remove()
    block.bn1.momentum = momentum
    means = torch.stack([out.mean((0, 2, 3)) for out in seen]).mean(0)
    variances = torch.stack(
        [out.transpose(0, 1).flatten(1).var(1) for out in seen]).mean(0)
    torch.testing.assert_close(block.bn2.running_mean, means)
    torch.testing.assert_close(block.bn2.running_var, variances)


@pytest.mark.parametrize('stride', [1, 2])
def test_least_squares(stride):
    conv = nn.Conv2d(6, 4, 1, stride=stride, bias=False).double()
    norm = nn.BatchNorm2d(4).double().eval()
    mixing = torch.randn(6, 6, dtype=torch.float64)
    moments, rows, targets = Moments(), [], []
    for number in (2, 3):
        features = torch.einsum(
            'oc,nchw->nohw', mixing,
            torch.randn(number, 6, 8, 8, dtype=torch.float64)) + 3
        read = features[:, :, ::stride, ::stride]
        target = torch.einsum(
            'oc,nchw->nohw', torch.randn(
                4, 6, dtype=torch.float64), read) + torch.randn(
                    number, 4, *read.shape[2:], dtype=torch.float64)
        moments.add(features, target, (stride, stride))
        rows.append(read.permute(0, 2, 3, 1).reshape(-1, 6).numpy())
        targets.append(target.permute(0, 2, 3, 1).reshape(-1, 4).numpy())
    with torch.no_grad():
        share = moments.solve(conv, norm)
    x, y = np.concatenate(rows), np.concatenate(targets)
    centred, wanted = x - x.mean(0), y - y.mean(0)
    # The ridge as rows of its own.
    ridge = RIDGE * centred.var(0).mean() * len(x)
    solution = np.linalg.lstsq(
        np.concatenate([centred, np.sqrt(ridge) * np.eye(6)]),
        np.concatenate([wanted, np.zeros((6, 4))]),
        rcond=None)[0]
    np.testing.assert_allclose(
        conv.weight.detach()[:, :, 0, 0].numpy(), solution.T, rtol=1e-8)
    # Through convolution and norm comes what the regression predicts.
    expected = centred @ solution + y.mean(0)
    with torch.no_grad():
        features = torch.from_numpy(x).t()[None, :, :, None]
        answer = norm(nn.functional.conv2d(features, conv.weight))
    np.testing.assert_allclose(answer[0, :, :, 0].t().numpy(), expected)
    residual = ((expected - y)**2).sum() / (wanted**2).sum()
    assert share == pytest.approx(1 - residual)
    # And the norm's statistics are those of what it reads.
    seen = x @ solution
    np.testing.assert_allclose(norm.running_mean.numpy(), seen.mean(0))
    np.testing.assert_allclose(norm.running_var.numpy(), seen.var(0))


def test_blocks_that_end_in_a_child_get_statistics_only():
    _, ours = networks('inverted')
    ours = MODELS.build(
        dict(
            NETWORKS['inverted'],
            conv_cfg=dict(type='KernelDNA', keep_own_kernel=True)))
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    explained = fit_children(ours, [pictures(4)], ours.forward)
    assert explained == dict.fromkeys(FITTED['inverted'])
    after = ours.state_dict()
    changed = {k for k in after if not torch.equal(after[k], before[k])}
    assert changed and all('running' in key or key.endswith('tracked')
                           for key in changed)


def test_the_output_of_a_block_that_ends_in_an_addition_in_place():
    """What a bottleneck's last norm gave is overwritten by the block."""
    _, ours = networks('bottleneck')
    # Where children keep what they would derive there is nothing to fit.
    with torch.no_grad():
        for child in children_of(ours).values():
            child.own_weight.copy_(child.adapter.derive(child.parent.weight))
    inputs = pictures(16)
    with torch.no_grad():
        before = ours(inputs)[-1]
    explained = fit_children(ours, [inputs], ours.forward)
    assert all(share > 0.8 for share in explained.values())
    with torch.no_grad():
        assert relative_error(ours(inputs)[-1], before) < 0.2


def test_one_batch_at_a_time_is_where_the_model_is(monkeypatch):
    _, ours = networks('bottleneck')
    given, alive = [], []
    original = type(ours).forward

    def forward(self, x):
        given.append(weakref.ref(x))
        alive.append(sum(batch() is not None for batch in given))
        return original(self, x)

    monkeypatch.setattr(type(ours), 'forward', forward)
    fit_children(ours, [pictures(2) for _ in range(3)], ours.forward)
    # Each of 3 batches through both networks, for each block.
    assert alive == [1] * (3 * 2 * len(FITTED['bottleneck']))


def picture(size):
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8)


def test_pictures_of_mmseg_are_padded_as_in_training():
    structures = pytest.importorskip('mmseg.structures')
    from mmengine.structures import PixelData
    samples = []
    sizes = (12, 16), (16, 9)
    for size in sizes:
        labels = PixelData(data=torch.zeros(1, *size, dtype=torch.long))
        samples.append(structures.SegDataSample(gt_sem_seg=labels))
    model = nn.Module()
    model.data_preprocessor = MODELS.build(
        dict(type='mmseg.SegDataPreProcessor', size=(16, 16)))
    batch = dict(inputs=list(map(picture, sizes)), data_samples=samples)
    assert training_inputs(model, batch).shape == (2, 3, 16, 16)


def test_whole_batches_are_not_resized_as_by_mmdet():
    structures = pytest.importorskip('mmdet.structures')
    resize = dict(
        type='mmdet.BatchSyncRandomResize',
        random_size_range=(64, 64),
        interval=1)
    model = nn.Module()
    model.data_preprocessor = MODELS.build(
        dict(type='mmdet.DetDataPreprocessor', batch_augments=[resize]))
    sample = structures.DetDataSample(
        metainfo=dict(img_shape=(32, 32), batch_input_shape=(32, 32)))
    batch = dict(inputs=[picture((32, 32))], data_samples=[sample])
    assert training_inputs(model, batch).shape == (1, 3, 32, 32)
    assert len(model.data_preprocessor.batch_augments) == 1


def test_pictures_are_not_mixed_as_by_mmpretrain():
    structures = pytest.importorskip('mmpretrain.structures')
    model = nn.Module()
    model.data_preprocessor = MODELS.build(
        dict(
            type='mmpretrain.ClsDataPreprocessor',
            num_classes=2,
            to_onehot=True,
            batch_augments=dict(augments=dict(type='Mixup', alpha=0.8))))
    images = [picture((8, 8)) for _ in range(2)]
    samples = [
        structures.DataSample().set_gt_label(label) for label in range(2)
    ]
    found = training_inputs(model, dict(inputs=images, data_samples=samples))
    assert torch.equal(found, torch.stack(images).float())
    assert model.data_preprocessor.batch_augments is not None
