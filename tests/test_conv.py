"""One convolution: plain, parent or child."""
import copy
import pickle
import warnings

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.model import BaseModule
from torch import nn

from mmkdna import KernelDNAConv2d, link_kernels
from tests.utils import children_of, kernel_dna, make_kin, pattern, randomize


def test_the_conv_type_is_known_by_name():
    conv = build_conv_layer(dict(type='KernelDNA'), 4, 6, 3, bias=False)
    assert type(conv) is KernelDNAConv2d
    assert conv.bias is None and conv.out_channels == 6


def test_a_direct_subclass_of_conv2d():
    # Where mmengine looks for init_cfg's layer='Conv2d', beside the name.
    assert nn.Conv2d in KernelDNAConv2d.__bases__


@pytest.mark.parametrize('arguments', [
    dict(),
    dict(stride=2, padding=1, bias=False),
    dict(groups=2, dilation=2, padding='same', padding_mode='reflect'),
    dict(dtype=torch.float64),
])
@pytest.mark.parametrize('linked', [False, True])
def test_plain_equals_conv2d_bit_for_bit(arguments, linked):
    torch.manual_seed(3)
    stock = nn.Conv2d(4, 6, 3, **arguments)
    torch.manual_seed(3)
    conv = KernelDNAConv2d(4, 6, 3, **arguments)
    conv.linked = linked
    theirs, ours = stock.state_dict(), conv.state_dict()
    assert list(ours) == list(theirs)
    assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
    x = torch.randn(2, 4, 8, 8, dtype=stock.weight.dtype)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        assert torch.equal(conv(x), stock(x))
    assert conv.kernel() is conv.weight


def test_a_parent_equals_conv2d_bit_for_bit():
    module = randomize(make_kin())
    child, parent = kernel_dna(module).values()
    assert (child.role, parent.role) == ('child', 'parent')
    stock = nn.Conv2d(8, 8, 3, padding=1)
    stock.load_state_dict(parent.state_dict())
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(parent(x), stock(x))


@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('grad', [True, False])
def test_a_parents_kernel_reaches_its_children(training, grad):
    module = randomize(make_kin(3)).train(training)
    x = torch.randn(2, 8, 6, 6)
    *children, parent = kernel_dna(module).values()
    with torch.set_grad_enabled(grad):
        before = [child(x) for child in children]
        with torch.no_grad():
            parent.weight.mul_(2)
        for child, old in zip(children, before):
            bias = child.bias[:, None, None]
            torch.testing.assert_close(child(x) - bias, 2 * (old - bias))


def test_all_gradients_reach_the_parent():
    module = randomize(make_kin(3).double()).eval()
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    convs = list(kernel_dna(module).values())
    parent = convs[-1]
    parts = []
    for conv in convs:
        parts.append(torch.autograd.grad(conv(x).sum(), parent.weight)[0])
        assert parts[-1].abs().sum() > 1
    sum(conv(x).sum() for conv in convs).backward()
    torch.testing.assert_close(parent.weight.grad, sum(parts))


def test_no_child_kernel_is_saved():
    module = make_kin(3)
    state = module.state_dict()
    assert [k for k in state if k.endswith('.weight') and state[k].dim() == 4
            ] == ['0.2.weight']
    assert {k[4:]
            for k in state if k.startswith('0.0.')} == {
                'bias', 'adapter.filter', 'adapter.spatial',
                'adapter.gate.fc1.weight', 'adapter.gate.norm.weight',
                'adapter.gate.norm.bias', 'adapter.gate.norm.running_mean',
                'adapter.gate.norm.running_var',
                'adapter.gate.norm.num_batches_tracked',
                'adapter.gate.fc2.weight', 'adapter.gate.fc2.bias'
            }
    parent = '0.2.weight'
    assert sum(p is module[0][2].weight for p in module.parameters()) == 1
    assert dict(module.named_parameters())[parent] is module[0][2].weight


def test_state_dict_round_trip():
    module, other = randomize(make_kin(3)).eval(), make_kin(3).eval()
    other.load_state_dict(module.state_dict())
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(other(x), module(x))


@pytest.mark.parametrize('kernel_size', [1, 3])
def test_a_child_with_a_neutral_adapter_is_its_parent(kernel_size):
    module = make_kin(
        kernel_size=kernel_size, kernel_sizes=(1, 3), modulation=('filter', ))
    child, parent = kernel_dna(module).values()
    child.bias.data = parent.bias.data
    x = torch.randn(2, 8, 6, 6)
    assert torch.equal(child(x), parent(x))


def test_a_child_has_no_weight_and_says_where_it_is():
    child, parent = kernel_dna(make_kin()).values()
    assert not hasattr(child, 'weight')
    with pytest.raises(AttributeError) as error:
        child.weight
    assert "derives its kernel from '0.1'" in str(error.value)
    assert 'kernel()' in str(error.value)
    assert child.kernel().shape == child.weight_shape == parent.weight.shape
    with pytest.raises(AttributeError, match='no_such_thing'):
        child.no_such_thing


def test_extra_repr_says_the_role():
    module = make_kin(3)
    assert module[0][0].extra_repr().endswith('padding=(1, 1), child of 0.2')
    assert repr(module).count('child of 0.2') == 2
    assert repr(module[0][2]).endswith('padding=(1, 1), parent of 2)')
    assert repr(KernelDNAConv2d(4, 4, 3)).endswith('stride=(1, 1), plain)')


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_shares_within_itself(duplicate):
    module = randomize(make_kin(3)).eval()
    twin = duplicate(module)
    assert pattern(twin) == 'S S F'
    for child in children_of(twin).values():
        assert child.parent is twin[0][2]
    x = torch.randn(2, 8, 6, 6)
    before = module(x)
    assert torch.equal(twin(x), before)
    with torch.no_grad():
        twin[0][2].weight.zero_()
    assert torch.equal(module(x), before)
    assert not torch.equal(twin(x), before)


def test_unlinked_convs_warn_once_and_run_as_plain():
    convs = nn.Sequential(*[KernelDNAConv2d(4, 4, 3) for _ in range(2)])
    stock = nn.Sequential(*[nn.Conv2d(4, 4, 3) for _ in range(2)])
    stock.load_state_dict(convs.state_dict())
    x = torch.randn(1, 4, 8, 8)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for _ in range(3):
            assert torch.equal(convs(x), stock(x))
    messages = [
        str(w.message) for w in caught if 'KernelDNA' in str(w.message)
    ]
    assert len(messages) == 1
    assert 'mmkdna.link_kernels(model)' in messages[0]


def test_linked_convs_do_not_warn():
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        make_kin()(torch.randn(2, 8, 4, 4))
        make_kin(1)(torch.randn(2, 8, 4, 4))


def test_an_adapter_is_as_frozen_and_as_evaluating_as_its_conv():
    convs = [KernelDNAConv2d(8, 8, 3) for _ in range(4)]
    convs[0].weight.requires_grad_(False)
    convs[2].eval()
    module = nn.Sequential(nn.Sequential(*convs))
    link_kernels(module)
    frozen, evaluating = convs[0].adapter, convs[2].adapter
    assert not any(p.requires_grad for p in frozen.parameters())
    assert all(m.training for m in frozen.modules())
    assert all(p.requires_grad for p in evaluating.parameters())
    assert not any(m.training for m in evaluating.modules())


def test_an_adapter_has_the_type_of_its_conv():
    convs = [KernelDNAConv2d(8, 8, 3, dtype=torch.float64) for _ in range(2)]
    link_kernels(nn.Sequential(nn.Sequential(*convs)))
    assert {p.dtype for p in convs[0].parameters()} == {torch.float64}


@pytest.mark.parametrize('parent', [(8, 8, 5), (8, 4, 3), (16, 8, 3, 2)])
def test_only_a_conv_of_the_same_shape_is_a_parent(parent):
    child = KernelDNAConv2d(8, 8, 3)
    in_channels, out_channels, size, *groups = parent
    parent = KernelDNAConv2d(
        in_channels, out_channels, size, groups=groups[0] if groups else 1)
    with pytest.raises(ValueError, match='cannot derive its kernel from x, '):
        child.derive_from(parent, 'x')
    assert child.role == 'plain' and parent.role == 'plain'


def test_a_child_is_no_parent_and_a_parent_no_child():
    module = make_kin()
    child, parent = kernel_dna(module).values()
    other = KernelDNAConv2d(8, 8, 3)
    for bad, of in ((other, child), (parent, other), (child, other), (other,
                                                                      other)):
        with pytest.raises(ValueError, match='cannot derive'):
            bad.derive_from(of, 'x')


class Net(BaseModule):

    def __init__(self):
        super().__init__(
            init_cfg=dict(
                type='Kaiming', layer='Conv2d', mode='fan_out', bias=3.))
        cfg = dict(type='KernelDNA', norm_cfg=None)
        self.stage = nn.Sequential(
            *[
                ConvModule(8, 8, 3, padding=1, conv_cfg=cfg, act_cfg=None)
                for _ in range(2)
            ], build_conv_layer(cfg, 8, 4, 3))


def test_init_weights_reaches_kernels_and_spares_adapters():
    net = Net()
    link_kernels(net)
    child, parent, plain = kernel_dna(net).values()
    assert (child.role, parent.role, plain.role) == \
        ('child', 'parent', 'plain')
    randomize(net)
    child.adapter.filter.data.zero_()
    child.adapter.spatial.data.zero_()
    before = {n: p.clone() for n, p in net.named_parameters()}
    net.init_weights()
    for name, parameter in net.named_parameters():
        changed = not torch.equal(parameter, before[name])
        assert changed == ('adapter' not in name), name
    for conv in (parent, plain):
        fan_out = conv.out_channels * 9
        assert float(conv.weight.detach().std()) == pytest.approx(
            (2 / fan_out)**0.5, rel=0.2)
    assert (child.bias == 3).all() and (parent.bias == 3).all()
