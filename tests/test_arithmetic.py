"""The child's numbers against the formula, forward and backward."""
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from mmkdna import link_kernels
from tests.reference import child_forward, parameters_of
from tests.utils import children_of, make_module, randomize, relative_error

EVERY_SIZE = (1, 3, 5, (1, 7), (2, 3))


def make_child(in_channels=8,
               out_channels=8,
               kernel_size=3,
               dtype=torch.float64,
               **arguments):
    """A child whose parent differs in all that a parent may differ in."""
    conv = {
        name: arguments.pop(name)
        for name in ('stride', 'padding', 'dilation', 'groups', 'bias',
                     'padding_mode') if name in arguments
    }
    shape = (in_channels, out_channels, kernel_size)
    groups = conv.get('groups', 1)
    module = make_module(
        dict([('stage.a', (*shape, conv)),
              ('stage.b', (*shape, dict(groups=groups, padding=7)))]),
        kernel_sizes=EVERY_SIZE,
        grouped=True,
        **arguments)
    link_kernels(module)
    randomize(module.to(dtype))
    child, = children_of(module).values()
    return child


def compare(child, x, tolerance, norm='batch', num_groups=None, amp=False):
    """Output and all gradients of a child against the formula's."""
    leaves, tensors = parameters_of(child)
    x_reference = x.detach().double().requires_grad_()
    expected = child_forward(x_reference, leaves, child, norm, num_groups)
    x = x.detach().requires_grad_()
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        y = child(x)
    assert y.shape == expected.shape
    assert relative_error(y, expected) <= tolerance
    cotangent = torch.randn(y.shape, dtype=torch.float64)
    expected.backward(cotangent)
    y.backward(cotangent.to(y.dtype))
    pairs = dict(input=(x, x_reference))
    pairs.update((name, (tensor, leaves[name]))
                 for name, tensor in tensors.items() if tensor.requires_grad)
    for name, (value, reference) in pairs.items():
        assert value.grad is not None, name
        assert relative_error(value.grad, reference.grad) <= tolerance, name
    return y


@pytest.mark.parametrize('conv', [
    dict(),
    dict(bias=False, padding=1),
    dict(stride=2, padding=1),
    dict(stride=(1, 2), padding=(0, 1), dilation=(2, 1)),
    dict(dilation=2, padding=2),
    dict(padding='same'),
    dict(padding=1, padding_mode='reflect'),
    dict(padding=2, padding_mode='replicate'),
    dict(padding=1, padding_mode='circular', stride=2),
    dict(padding='same', padding_mode='reflect', dilation=2),
    dict(groups=2, padding=1),
    dict(groups=8, padding=1),
    dict(kernel_size=1),
    dict(kernel_size=1, stride=2, bias=False),
    dict(kernel_size=5, padding=2),
    dict(kernel_size=(1, 7), padding=(0, 3)),
    dict(in_channels=12, out_channels=8),
    dict(in_channels=8, out_channels=12, stride=2),
])
def test_child_equals_the_formula(conv):
    child = make_child(**conv)
    x = torch.randn(3, child.in_channels, 9, 8, dtype=torch.float64)
    compare(child, x, 1e-12)


@pytest.mark.parametrize('modulation', [
    (),
    ('filter', ),
    ('spatial', ),
    ('channel', ),
    ('filter', 'spatial'),
    ('filter', 'channel'),
    ('spatial', 'channel'),
    ('channel', 'spatial', 'filter'),
])
def test_each_modulation_equals_the_formula(modulation):
    child = make_child(modulation=modulation, padding=1)
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    compare(child, x, 1e-12)
    has = dict(
        filter=child.adapter.filter,
        spatial=child.adapter.spatial,
        channel=child.adapter.gate)
    for name, part in has.items():
        assert (part is not None) == (name in modulation)


@pytest.mark.parametrize('norm_cfg, norm, num_groups', [
    (None, None, None),
    (dict(type='BN'), 'batch', None),
    (dict(type='GN', num_groups=2), 'group', 2),
])
def test_gate_norm_equals_the_formula(norm_cfg, norm, num_groups):
    child = make_child(norm_cfg=norm_cfg, rd_ratio=1.0, padding=1)
    x = torch.randn(3, 8, 5, 7, dtype=torch.float64)
    compare(child, x, 1e-12, norm, num_groups)


def test_child_in_eval_mode_equals_the_formula():
    child = make_child(padding=1).eval()
    x = torch.randn(3, 8, 5, 7, dtype=torch.float64)
    compare(child, x, 1e-12, 'running')


def test_child_in_float32():
    child = make_child(padding=1, stride=2, dtype=torch.float32)
    y = compare(child, torch.randn(3, 8, 9, 9), 2e-5)
    assert y.dtype == torch.float32


def test_child_in_channels_last():
    child = make_child(padding=1, dtype=torch.float32)
    child.parent.to(memory_format=torch.channels_last)
    x = torch.randn(3, 8, 9, 9).to(memory_format=torch.channels_last)
    y = compare(child, x, 2e-5)
    assert y.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize('norm_cfg, norm', [(None, None),
                                            (dict(type='BN'), 'batch')])
def test_child_in_bfloat16_autocast(norm_cfg, norm):
    child = make_child(
        16, 16, padding=1, norm_cfg=norm_cfg, dtype=torch.float32)
    y = compare(child, torch.randn(4, 16, 9, 9), 5e-2, norm, amp=True)
    assert y.dtype == torch.bfloat16


@settings(max_examples=40)
@given(st.data())
def test_any_child_equals_the_formula(data):
    draw = data.draw
    groups = draw(st.sampled_from((1, 1, 2)), 'groups')
    dilation = draw(st.sampled_from((1, 2, (1, 2))), 'dilation')
    stride = draw(st.sampled_from((1, 2, (2, 1))), 'stride')
    padding = draw(
        st.sampled_from((0, 1, 2, (1, 0), 'valid') +
                        (('same', ) if stride == 1 else ())), 'padding')
    norm = draw(st.sampled_from((None, 'batch', 'group')), 'norm')
    norm_cfg = dict(
        batch=dict(type='BN'), group=dict(type='GN', num_groups=1)).get(norm)
    # The gate's norm is to have more than one number in a group.
    least = 2 if norm == 'group' else 1
    parts = draw(st.sets(st.sampled_from(('filter', 'spatial', 'channel'))))
    child = make_child(
        draw(st.integers(least, 4), 'C_in') * 2 * groups,
        draw(st.integers(least, 4), 'C_out') * 2 * groups,
        draw(st.sampled_from(EVERY_SIZE), 'kernel size'),
        stride=stride,
        padding=padding,
        dilation=dilation,
        groups=groups,
        bias=draw(st.booleans(), 'bias'),
        padding_mode=draw(
            st.sampled_from(('zeros', 'reflect', 'replicate', 'circular')),
            'mode'),
        modulation=tuple(parts),
        norm_cfg=norm_cfg,
        rd_ratio=draw(st.sampled_from((0.5, 1.0)), 'rd_ratio'))
    images = draw(st.integers(1, 3), 'images')
    if norm == 'batch' and images == 1:
        norm = 'running'
    x = torch.randn(
        images,
        child.in_channels,
        draw(st.integers(9, 11), 'H'),
        draw(st.integers(13, 14), 'W'),
        dtype=torch.float64)
    compare(child, x, 1e-11, norm, 1)
