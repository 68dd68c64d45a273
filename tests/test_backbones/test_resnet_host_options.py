"""Whatever a host library's ResNet can do, ours can."""
import copy

import pytest
import torch
from mmengine.utils.dl_utils.parrots_wrapper import _BatchNorm

from tests.test_backbones.test_resnet import (HOSTS, PAPER, build, links_of,
                                              small)
from tests.utils import INSTALLED, children_of, randomize


def stock_twin(model, host, depth, **arguments):
    """The host's own class in our topology, with the same arguments."""
    stock = type(model).__mro__[2]
    assert stock.__module__.startswith(f'{host}.')

    class Twin(stock):
        arch_settings = type(model).arch_settings

    return Twin(depth, **arguments)


@pytest.mark.parametrize('host', HOSTS)
def test_the_control_is_the_hosts_network(host):
    arguments = dict(base_channels=16)
    if host == 'mmpretrain':
        arguments['stem_channels'] = 16
    control = build(host, 18, sharing_stages=(), **arguments)
    control.eval()
    twin = stock_twin(control, host, 18, **arguments)
    twin.eval()
    twin.load_state_dict(control.state_dict())
    x = torch.randn(1, 3, 64, 64)
    for ours, theirs in zip(control(x), twin(x)):
        assert torch.equal(ours, theirs)


def skeleton(model):
    """All of a network that sharing leaves as it is."""
    found = {}
    for name, module in model.named_modules():
        if not name or '.adapter' in name:
            continue
        kind = type(module).__name__.replace('KernelDNAConv2d', 'Conv2d')
        settings = [
            getattr(module, setting, None)
            for setting in ('stride', 'padding', 'dilation', 'groups',
                            'kernel_size', 'drop_prob', 'with_cp')
        ]
        trained = [
            p.requires_grad for n, p in module.named_parameters(recurse=False)
            if n != 'weight' or kind != 'Conv2d'
        ]
        found[name] = (kind, module.training, *settings, *trained)
    return found


@pytest.mark.parametrize('host, depth, arguments', [
    ('mmseg', 50,
     dict(
         dilations=(1, 1, 2, 4),
         strides=(1, 2, 1, 1),
         contract_dilation=True,
         multi_grid=(1, 2, 4))),
    ('mmseg', 18, dict(deep_stem=True, avg_down=True, norm_eval=True)),
    ('mmdet', 50,
     dict(plugins=[
         dict(
             cfg=dict(type='ContextBlock', ratio=1 / 4),
             stages=(False, True, True, False),
             position='after_conv3')
     ])),
    ('mmdet', 50,
     dict(
         dcn=dict(type='DCN', deform_groups=1, fallback_on_stride=False),
         stage_with_dcn=(False, True, False, False))),
    ('mmdet', 18, dict(out_indices=(0, 3), frozen_stages=3)),
    ('mmdet', 50, dict(deep_stem=True, avg_down=True, style='caffe')),
    ('mmdet', 18,
     dict(
         num_stages=3,
         strides=(1, 2, 2),
         dilations=(1, 1, 1),
         out_indices=(1, 2),
         with_cp=True)),
    ('mmpretrain', 18, dict(drop_path_rate=0.3, out_indices=(2, 3))),
    ('mmpretrain', 50, dict(deep_stem=True, avg_down=True)),
    ('mmpretrain', 50,
     dict(strides=(1, 2, 2, 1), dilations=(1, 1, 1, 2), frozen_stages=1)),
])
def test_the_hosts_options_keep_working(host, depth, arguments):
    arguments = dict(arguments, base_channels=16)
    if host == 'mmpretrain':
        arguments['stem_channels'] = 16
    ours = build(host, depth, **copy.deepcopy(arguments))
    stock = stock_twin(ours, host, depth, **arguments)
    assert links_of(ours) == {
        child: parent
        for child, parent in PAPER[depth].items() if hasattr(ours, child[:6])
    }
    ours.train()
    stock.train()
    assert skeleton(ours) == skeleton(stock)
    x = torch.randn(2, 3, 64, 64)
    assert [y.shape for y in ours(x)] == [y.shape for y in stock(x)]


def test_frozen_stages_freeze_the_adapters():
    for host in INSTALLED:
        model = small(host, frozen_stages=3, norm_eval=False)
        model.train()
        for name, child in children_of(model).items():
            frozen = name.startswith('layer3')
            for module in child.adapter.modules():
                assert module.training != frozen
            for parameter in child.parameters():
                assert parameter.requires_grad != frozen


def test_norm_eval_reaches_the_gates():
    for norm_eval in (True, False):
        model = small(norm_eval=norm_eval)
        model.train()
        norms = [
            module for name, module in model.named_modules()
            if 'adapter' in name and isinstance(module, _BatchNorm)
        ]
        assert len(norms) == 6
        assert {norm.training for norm in norms} == {not norm_eval}


def test_with_cp_gives_equal_gradients():
    plain, saving = [small(with_cp=with_cp) for with_cp in (False, True)]
    randomize(plain)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64)
    for model in (plain, saving):
        sum(y.square().mean() for y in model(x.requires_grad_())).backward()
    theirs = dict(saving.named_parameters())
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(theirs[name].grad, parameter.grad, msg=name)
