"""An adapter's parameters, and the gate's norm with few values."""
import pytest
import torch
from mmengine.model.utils import revert_sync_batchnorm
from torch import nn

from mmkdna import SharingOptions
from mmkdna.adapter import Adapter, reduced_channels
from tests.utils import randomize


def make_adapter(weight_shape=(8, 8, 3, 3), in_channels=8, **options):
    return Adapter(weight_shape, in_channels, SharingOptions(**options))


@torch.no_grad()
@pytest.mark.parametrize('modulation', [
    ('filter', 'spatial', 'channel'),
    ('filter', 'channel'),
    ('spatial', 'channel'),
    ('filter', 'spatial'),
    ('filter', ),
    ('spatial', ),
    (),
])
def test_it_starts_neutral(modulation):
    """A child computes what its parent's kernel would, to the bit."""
    adapter = make_adapter((6, 8, 3, 5), 8, modulation=modulation).eval()
    if 'filter' in modulation:
        assert adapter.filter.shape == (6, 1, 1, 1)
    if 'spatial' in modulation:
        assert adapter.spatial.shape == (1, 1, 3, 5)
    weight, x = torch.randn(6, 8, 3, 5), torch.randn(2, 8, 9, 9)
    torch.testing.assert_close(
        nn.functional.conv2d(adapter.modulate(x), adapter.derive(weight)),
        nn.functional.conv2d(x, weight),
        rtol=0,
        atol=0)


def test_nothing_makes_up_for_a_gate_alone():
    adapter = make_adapter(modulation=('channel', ))
    x = torch.randn(2, 8, 9, 9)
    assert torch.equal(adapter.modulate(x), x / 2)


@pytest.mark.parametrize('modulation, parameters', [
    ((), 0),
    (('filter', ), 16),
    (('spatial', ), 9),
    (('channel', ), 12 * 3 + 2 * 3 + 3 * 12 + 12),
    (('filter', 'spatial', 'channel'), 16 + 9 + 90),
])
def test_parameters(modulation, parameters):
    adapter = make_adapter((16, 12, 3, 3), 12, modulation=modulation)
    assert sum(p.numel() for p in adapter.parameters()) == parameters


def test_a_1x1_kernel_has_no_spatial_modulation():
    assert make_adapter((8, 8, 1, 1)).spatial is None
    assert make_adapter((8, 8, 1, 2)).spatial.shape == (1, 1, 1, 2)


def test_fc1_has_no_bias_and_fc2_has_one():
    gate = make_adapter().gate
    assert gate.fc1.bias is None
    assert gate.fc2.bias is not None


@pytest.mark.parametrize(
    'in_channels, out_channels, rd_ratio, expected',
    [
        (64, 64, 0.25, 16),
        (384, 64, 0.25, 16),  # a MobileNetV2 projection, C_in // 24
        (64, 384, 0.25, 16),
        (7, 9, 0.25, 1),
        (16, 16, 2, 32),
    ])
def test_rd_ratio(in_channels, out_channels, rd_ratio, expected):
    assert reduced_channels(in_channels, out_channels, rd_ratio) == expected
    adapter = make_adapter((out_channels, in_channels, 1, 1),
                           in_channels,
                           rd_ratio=rd_ratio)
    assert adapter.gate.fc1.out_features == expected


def test_rd_ratio_without_a_channel_is_told_with_one_that_works():
    with pytest.raises(ValueError) as error:
        make_adapter((16, 8, 3, 3), 8, rd_ratio=0.1)
    message = str(error.value)
    assert 'rd_ratio=0.1 is given' in message
    assert '8 input and 16 output channels' in message
    assert 'from rd_ratio=0.125 on' in message
    assert 'raise rd_ratio' in message and 'min_channels' in message
    make_adapter((16, 8, 3, 3), 8, rd_ratio=0.125)


@pytest.mark.parametrize('norm_cfg, norm', [
    (dict(type='BN'), nn.BatchNorm2d),
    (dict(type='SyncBN'), nn.SyncBatchNorm),
    (dict(type='GN', num_groups=1), nn.GroupNorm),
    (None, nn.Identity),
])
def test_norm_cfg(norm_cfg, norm):
    adapter = make_adapter(norm_cfg=norm_cfg)
    assert isinstance(adapter.gate.norm, norm)


@pytest.mark.parametrize('channels, groups', [(8, 2), (4, 1)])
def test_a_norm_of_single_numbers_is_refused(channels, groups):
    shape, norm_cfg = (channels, 8, 3, 3), dict(type='GN', num_groups=groups)
    with pytest.raises(ValueError) as error:
        make_adapter(shape, norm_cfg=norm_cfg)
    message = str(error.value)
    assert f'num_groups\': {groups}' in message
    assert f'reduces to {groups} channels' in message
    assert 'fewer groups' in message and 'rd_ratio' in message
    make_adapter(shape, rd_ratio=0.5, norm_cfg=norm_cfg)


def test_norm_cfg_settings_reach_the_norm():
    adapter = make_adapter(
        norm_cfg=dict(type='BN', eps=0.1, requires_grad=False))
    assert adapter.gate.norm.eps == 0.1
    assert not adapter.gate.norm.weight.requires_grad


def make_gate(**norm_cfg):
    norm_cfg.setdefault('type', 'BN')
    return randomize(make_adapter(norm_cfg=norm_cfg)).gate


def statistics(gate):
    return {n: b.clone() for n, b in gate.norm.named_buffers()}


@pytest.mark.parametrize('kind', ['BN', 'SyncBN'])
@pytest.mark.parametrize('images', [0, 1])
def test_too_few_images_use_running_statistics(kind, images):
    gate = make_gate(type=kind, eps=0.1).train()
    before = statistics(gate)
    x = torch.randn(images, 8, 5, 5, requires_grad=True)
    factors = gate(x)
    assert factors.shape == (images, 8, 1, 1)
    for name, value in statistics(gate).items():
        assert torch.equal(value, before[name]), name
    factors.sum().backward()
    for name, parameter in gate.named_parameters():
        assert parameter.grad.isfinite().all(), name
    with torch.no_grad():
        assert torch.equal(factors, gate.eval()(x))
    if images:
        assert ((0 < factors) & (factors < 1)).all()


def test_two_images_use_and_keep_batch_statistics():
    gate = make_gate(momentum=0.25).train()
    before = statistics(gate)
    x = torch.randn(2, 8, 5, 5)
    factors = gate(x)
    after = statistics(gate)
    with torch.no_grad():
        squeezed = x.mean((2, 3)) @ gate.fc1.weight.t()
        torch.testing.assert_close(
            after['running_mean'],
            0.75 * before['running_mean'] + 0.25 * squeezed.mean(0))
        torch.testing.assert_close(
            after['running_var'],
            0.75 * before['running_var'] + 0.25 * squeezed.var(0))
    assert after['num_batches_tracked'] == before['num_batches_tracked'] + 1
    assert not torch.allclose(factors, gate.eval()(x), atol=1e-3)


def test_one_image_trains_with_a_norm_that_has_no_statistics():
    gate = randomize(make_adapter(norm_cfg=dict(type='GN', num_groups=1))).gate
    x = torch.randn(3, 8, 4, 4)
    torch.testing.assert_close(gate(x[:1]), gate(x)[:1])


def test_a_gate_depends_on_the_image():
    gate = make_gate().eval()
    factors = gate(torch.randn(2, 8, 4, 4))
    assert not torch.allclose(factors[0], factors[1], atol=1e-3)


def test_reverted_sync_bn_gives_the_same_gate():
    adapter = randomize(make_adapter(norm_cfg=dict(type='SyncBN'))).eval()
    x = torch.randn(2, 8, 4, 4)
    expected = adapter.modulate(x)
    reverted = revert_sync_batchnorm(adapter)
    assert not isinstance(reverted.gate.norm, nn.SyncBatchNorm)
    torch.testing.assert_close(reverted.modulate(x), expected)
    one_image = reverted.train().modulate(x[:1])
    torch.testing.assert_close(one_image, expected[:1])
