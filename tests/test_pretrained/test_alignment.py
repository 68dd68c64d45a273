"""The order of hidden channels."""
import pytest
import torch
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdna.hosts import block_layers
from mmkdna.pretrained.alignment import (_permute, align, align_blocks,
                                         hidden_channels)
from tests.utils import children_of

HOSTS = ('mmdet', 'mmpretrain', 'mmseg')
NETWORKS = {
    'basic': dict(type='KernelDNAResNet', depth=18, base_channels=16),
    'bottleneck': dict(type='KernelDNAResNet', depth=50, base_channels=16),
    'inverted': dict(type='KernelDNAMobileNetV2'),
}
# Blocks with children and no parent.
ALIGNED = {
    'basic': ['layer3.0', 'layer4.0'],
    'bottleneck': ['layer3.1', 'layer3.3', 'layer3.5', 'layer4.1'],
    'inverted': ['layer3.1', 'layer4.1', 'layer4.2', 'layer5.1', 'layer6.1'],
}


def build(network, host='mmpretrain', **arguments):
    cfg = dict(NETWORKS[network], **arguments)
    cfg['type'] = f'{host}.{cfg["type"]}'
    if cfg.get('base_channels') and host == 'mmpretrain' and ('stem_channels'
                                                              not in cfg):
        cfg['stem_channels'] = 64
    return MODELS.build(cfg)


def plain_net(network, host='mmpretrain', **arguments):
    """The plain network in float64, its norms as after training."""
    model = build(network, host, sharing_stages=(), **arguments).double()
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.3)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    return model


def answer(model):
    torch.manual_seed(5)
    model.double().eval()
    with torch.no_grad():
        outputs = model(torch.randn(2, 3, 32, 32, dtype=torch.float64))
    return outputs[-1]


def parts(model):
    modules = dict(model.named_modules())
    blocks = {name: block_layers(name, m) for name, m in modules.items()}
    return modules, {n: layers for n, layers in blocks.items() if layers}


def parents_of(model):
    return {n: conv.parent_name for n, conv in children_of(model).items()}


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('network', NETWORKS)
def test_aligning_changes_no_output(network, host):
    theirs = plain_net(network, host)
    before = answer(theirs)
    weights = dict(theirs.state_dict())
    ours = build(network, host)
    align_blocks(weights, *parts(ours), parents_of(ours))
    changed = {
        '.'.join(key.split('.')[:2])
        for key, value in theirs.state_dict().items()
        if not torch.equal(value, weights[key])
    }
    assert sorted(changed) == ALIGNED[network]
    theirs.load_state_dict(weights)
    torch.testing.assert_close(answer(theirs), before, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('network', NETWORKS)
def test_a_permuted_and_scaled_copy_is_found(network, host):
    theirs, ours = plain_net(network, host), build(network, host)
    weights, parents = dict(theirs.state_dict()), parents_of(ours)
    modules, blocks = parts(ours)
    copies = []
    for block in ALIGNED[network]:
        for layer in blocks[block]:
            if layer.conv in parents:
                copies.append(layer.conv)
                kernel = weights[f'{parents[layer.conv]}.weight']
                scale = torch.rand(len(kernel), 1, 1, 1).double() + 0.5
                weights[f'{layer.conv}.weight'] = kernel * scale
        for hidden in hidden_channels(blocks[block], modules):
            channels = len(weights[f'{hidden.producer.conv}.weight'])
            _permute(weights, hidden, torch.randperm(channels))
    theirs.load_state_dict(weights)
    load_state_dict(ours.double(), weights, strict=True, logger='silent')
    fits = ours.plain_report.fits
    errors = {fit.child: fit.error for fit in fits}
    cosines = {fit.child: fit.cosine for fit in fits}
    for name in copies:
        assert errors[name] < 1e-6
        assert cosines[name] == pytest.approx(1)
    if network != 'basic':
        # There every child has been made a copy: nothing is lost.
        torch.testing.assert_close(
            answer(ours), answer(theirs), rtol=1e-5, atol=1e-6)


def test_only_the_expansion_or_only_the_projection_shared():
    for pattern, place in ((r'\.(?!0\.)\d+\.conv\.0\.', 0),
                           (r'\.(?!0\.)\d+\.conv\.2\.', 2)):
        theirs = plain_net('inverted')
        ours = build(
            'inverted', conv_cfg=dict(type='KernelDNA', name_pattern=pattern))
        parents = parents_of(ours)
        assert {name.split('.')[3] for name in parents} == {str(place)}
        before, weights = answer(theirs), dict(theirs.state_dict())
        align_blocks(weights, *parts(ours), parents)
        theirs.load_state_dict(weights)
        torch.testing.assert_close(
            answer(theirs), before, rtol=1e-11, atol=1e-12)
        child, parent = next(iter(parents.items()))
        one, two = (
            weights[f'{name}.weight'].transpose(0, place // 2).flatten(1)
            for name in (child, parent))
        assert float(nn.functional.cosine_similarity(one, two).mean()) > 0.1


@pytest.mark.parametrize('norm', ['GN', 'BN'])
def test_channels_stay_in_their_groups(norm):
    """A group norm knows which channels come together."""
    cfg = dict(type=norm, num_groups=4) if norm == 'GN' else dict(type=norm)
    theirs, ours = (
        build('bottleneck', norm_cfg=cfg, sharing_stages=stages)
        for stages in ((), (3, 4)))
    weights = dict(theirs.state_dict())
    align_blocks(weights, *parts(ours), parents_of(ours))
    same = all(
        torch.equal(weights[key], value)
        for key, value in theirs.state_dict().items())
    assert same == (norm == 'GN')


def test_blocks_with_more_in_them_are_left_alone():
    """Squeeze and excitation reads the hidden channels by their order."""
    net = MODELS.build(
        dict(
            type='mmpretrain.MobileNetV3',
            conv_cfg=dict(type='KernelDNA', kernel_sizes=(1, ),
                          stage_level=0)))
    blocks = parts(net)[1]
    modules = dict(net.named_modules())
    assert blocks and children_of(net)
    assert all(not modules[name].with_se for name in blocks)
    theirs = MODELS.build(dict(type='mmpretrain.MobileNetV3')).double()
    before, weights = answer(theirs), dict(theirs.state_dict())
    align_blocks(weights, *parts(net), parents_of(net))
    theirs.load_state_dict(weights)
    torch.testing.assert_close(answer(theirs), before, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize('cfg', [
    dict(type='mmpretrain.ShuffleNetV2'),
    dict(type='mmpretrain.Res2Net', depth=50),
    dict(type='mmpretrain.ResNeSt', depth=50),
    dict(type='mmpretrain.ResNeXt', depth=50),
    dict(type='mmpretrain.SEResNet', depth=50, base_channels=16),
    dict(type='mmpretrain.RegNet', arch='regnetx_400mf'),
    dict(type='mmdet.HRNet', extra=None),
])
def test_other_networks_of_these_blocks(cfg):
    if cfg['type'] == 'mmdet.HRNet':
        stage = dict(block='BASIC', num_modules=1)
        cfg['extra'] = dict(
            stage1=dict(
                num_modules=1,
                num_branches=1,
                block='BOTTLENECK',
                num_blocks=(4, ),
                num_channels=(8, )))
        for i in (2, 3, 4):
            cfg['extra'][f'stage{i}'] = dict(
                stage,
                num_branches=i,
                num_blocks=(2, ) * i,
                num_channels=(8, 16, 32, 64)[:i])
    theirs = MODELS.build(dict(cfg)).double()
    ours = MODELS.build(
        dict(cfg, conv_cfg=dict(type='KernelDNA', kernel_sizes=(1, 3))))
    before, weights = answer(theirs), dict(theirs.state_dict())
    load_state_dict(ours, weights, strict=True, logger='silent')
    align_blocks(weights, *parts(ours), parents_of(ours))
    theirs.load_state_dict(weights)
    torch.testing.assert_close(answer(theirs), before, rtol=1e-10, atol=1e-11)


def test_hidden_channels_of_a_bottleneck_and_an_inverted_residual():
    modules, blocks = parts(build('bottleneck'))
    first, second = hidden_channels(blocks['layer3.1'], modules)
    assert (first.producer.conv, first.carriers,
            first.consumer.conv) == ('layer3.1.conv1', [], 'layer3.1.conv2')
    assert (second.producer.norm, second.consumer.norm) == ('layer3.1.bn2',
                                                            'layer3.1.bn3')
    modules, blocks = parts(build('inverted'))
    hidden, = hidden_channels(blocks['layer4.1'], modules)
    assert hidden.producer.conv == 'layer4.1.conv.0.conv'
    assert [layer.norm for layer in hidden.carriers] == ['layer4.1.conv.1.bn']
    assert hidden.consumer.conv == 'layer4.1.conv.2.conv'
    # Depthwise, then projection: nobody writes the hidden channels.
    assert hidden_channels(blocks['layer1.0'], modules) == []


def test_aligning_nothing_is_fine():
    modules, blocks = parts(build('inverted'))
    weights = {}
    align(weights, hidden_channels(blocks['layer4.1'], modules), {})
    assert weights == {}
