"""Ordinary pretrained weights, taken by what shares kernels."""
import copy
import pickle

import pytest
import torch
import torchvision
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner.checkpoint import load_checkpoint, load_state_dict
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from mmkdna import KernelDNAConv2d
from mmkdna.pretrained import plain
from tests.runs import real_data
from tests.utils import (INSTALLED, children_of, kernel_dna, make_kin,
                         make_module)

HOSTS = ('mmdet', 'mmpretrain', 'mmseg')
SHARED_1X1 = dict(
    type='KernelDNA',
    kernel_sizes=(1, ),
    children_per_parent=None,
    name_pattern=r'^layer\d+\.(?!0\.)')


@pytest.fixture
def log(monkeypatch):
    """What plain.py logs."""
    lines = []
    monkeypatch.setattr(plain, 'print_log',
                        lambda text, logger: lines.extend(text.split('\n')))
    return lines


def build(name, host='mmpretrain', **arguments):
    return MODELS.build(dict(type=f'{host}.{name}', **arguments))


def resnet(depth, host='mmpretrain', **arguments):
    """A KernelDNAResNet that computes what torchvision's does."""
    arguments.setdefault('style', 'pytorch')
    return build('KernelDNAResNet', host, depth=depth, **arguments)


def lively(model):
    """Give batch norms what training gives them."""
    for module in model.modules():
        if isinstance(module, _BatchNorm):
            nn.init.uniform_(module.weight, 0.5, 1)
            nn.init.normal_(module.bias, 0, 0.1)
            module.running_mean.normal_(0, 0.1)
            module.running_var.uniform_(0.5, 2)
    # mmdet's and mmpretrain's return nothing.
    model.eval()
    return model


def torchvision_net(name):
    return lively(getattr(torchvision.models, name)(weights=None))


def last(outputs):
    return outputs[-1] if isinstance(outputs, (tuple, list)) else outputs


def features(net, x):
    """What a network of torchvision feeds to its pooling."""
    if hasattr(net, 'features'):
        return net.features(x)
    for name, layer in net.named_children():
        if name == 'avgpool':
            return x
        x = layer(x)


def difference(ours, theirs, dtype, tolerance):
    """Assert that two networks answer the same."""
    x = torch.randn(2, 3, 48, 48, dtype=dtype)
    theirs.to(dtype).eval()
    answer = answer_of(ours.to(dtype), x)
    with torch.no_grad():
        expected = last(features(theirs, x))
    assert answer.shape == expected.shape
    error = (answer - expected).norm() / expected.norm()
    assert float(error) < tolerance


def answer_of(net, x, train=False):
    # Some train() of the host libraries return nothing.
    net.train(train)
    with torch.no_grad():
        return last(net(x))


def load(model, state_dict, strict=False):
    load_state_dict(model, state_dict, strict=strict, logger='silent')
    return model


def check_children(model, weights, aligned=()):
    """Gates neutral, filter norms kept; plain kernels and parents exact."""
    children = children_of(model)
    for name, conv in model.named_modules():
        if (not isinstance(conv, (nn.Conv2d, KernelDNAConv2d))
                or f'{name}.weight' not in weights):
            continue
        if name in children:
            adapter = conv.adapter
            x = torch.randn(3, conv.in_channels, 5, 5)
            assert torch.equal(
                adapter.gate(x), torch.full((3, conv.in_channels, 1, 1), 0.5))
            norms = conv.kernel().detach().flatten(1).norm(dim=1)
            theirs = weights[f'{name}.weight'].flatten(1).norm(dim=1)
            # Hidden channels of an aligned block come in another order.
            torch.testing.assert_close(
                norms.sort().values,
                2 * theirs.sort().values,
                rtol=1e-5,
                atol=1e-6)
        elif not name.startswith(tuple(aligned)):
            assert torch.equal(conv.weight, weights[f'{name}.weight']), name


@pytest.mark.parametrize('depth, blocks', [
    (18, ['layer3.2', 'layer4.2']),
    (50, ['layer3.6']),
])
def test_the_plain_network_of_the_papers_topology(depth, blocks, log):
    theirs = torchvision_net(f'resnet{depth}')
    ours = load(resnet(depth, sharing_stages=()), theirs.state_dict())
    difference(ours, theirs, torch.float32, 1e-5)
    difference(ours, theirs, torch.float64, 1e-12)
    line, = log
    assert line == ('KernelDNA: KernelDNAResNet has blocks that the weights '
                    'do not have and that start as the identity: ' +
                    ', '.join(blocks))


@pytest.mark.parametrize('host', HOSTS)
def test_the_plain_mobilenet(host, log):
    theirs = torchvision_net('mobilenet_v2')
    ours = build('KernelDNAMobileNetV2', host, sharing_stages=())
    weights = theirs.state_dict()
    if host == 'mmseg':
        # It has no conv2, and dilates the last stages by default.
        ours = build(
            'KernelDNAMobileNetV2',
            host,
            sharing_stages=(),
            strides=(1, 2, 2, 2, 1, 2, 1),
            dilations=(1, ) * 7,
            out_indices=(6, ))
        theirs.features = theirs.features[:-1]
    load(ours, weights)
    difference(ours, theirs, torch.float32, 1e-5)
    difference(ours, theirs, torch.float64, 1e-12)
    assert log == []


@pytest.mark.parametrize('depth', [18, 50])
def test_resnet_by_config(depth, tmp_path, log, said):
    theirs = torchvision_net(f'resnet{depth}')
    weights = {f'backbone.{k}': v for k, v in theirs.state_dict().items()}
    torch.save(dict(state_dict=weights), tmp_path / 'plain.pth')
    ours = resnet(
        depth,
        init_cfg=dict(
            type='Pretrained',
            checkpoint=str(tmp_path / 'plain.pth'),
            prefix='backbone.'))
    ours.init_weights()
    aligned = (['layer3.0', 'layer4.0']
               if depth == 18 else ['layer3.1', 'layer3.3', 'layer4.1'])
    check_children(ours, theirs.state_dict(), aligned)
    for name, norm in ours.named_modules():
        if isinstance(norm, _BatchNorm) and 'adapter' not in name and not any(
                name.startswith(block) for block in aligned):
            expected = dict(theirs.named_modules()).get(name)
            if expected is not None:
                assert torch.equal(norm.running_var, expected.running_var)
    rows = [line for line in log if ' from ' in line]
    children = children_of(ours)
    # A child of a block that the weights do not have is as new as the block.
    known = [c for c in children if f'{c}.weight' in theirs.state_dict()]
    assert [row.split()[0] for row in rows] == known
    for row, child in zip(rows, known):
        words = row.replace(',', '').split()
        assert words[2] == children[child].parent_name
        assert words[3:5] == ['relative', 'error'] and 0 <= float(words[5]) < 2
        assert words[6] == 'cosine' and -1 <= float(words[7]) <= 1
    said = said()
    # The head that the backbone has no place for, the block that is new.
    assert 'unexpected key in source state_dict: fc.weight, fc.bias' in said
    new = 'layer3.2.conv1' if depth == 18 else 'layer3.6.conv1.weight'
    assert f'{new}' in said.split('missing keys in source')[1]


@pytest.mark.parametrize('host', HOSTS)
def test_mobilenet_in_all_layouts(host, tmp_path):
    theirs = torchvision_net('mobilenet_v2')
    layouts = [theirs.state_dict()]
    for other in INSTALLED:
        if other != 'mmseg':
            net = build('MobileNetV2', other)
            layouts.append(load(net, _in_order(theirs, net)).state_dict())
    answers = []
    x = torch.randn(1, 3, 48, 48)
    for i, weights in enumerate(layouts):
        file = tmp_path / f'{i}.pth'
        torch.save(weights, file)
        torch.manual_seed(1)
        ours = build(
            'KernelDNAMobileNetV2',
            host,
            init_cfg=dict(type='Pretrained', checkpoint=str(file)))
        ours.init_weights()
        named = _in_order(theirs, build('MobileNetV2', host))
        check_children(ours, named, blocks_of(children_of(ours)))
        answers.append(answer_of(ours, x))
    for answer in answers[1:]:
        assert torch.equal(answer, answers[0])


def blocks_of(names):
    return {'.'.join(name.split('.')[:2]) for name in names}


def _in_order(theirs, net):
    """Weights under the names of another network with the same layers."""
    return dict(zip(net.state_dict(), theirs.state_dict().values()))


@pytest.mark.parametrize('suffix', ['mmdet', 'torchvision'])
def test_real_weights_leave_no_kernel_behind(suffix, log, said):
    file = real_data('weights') / f'mobilenet_v2_imagenet_{suffix}.pth'
    model = build(
        'KernelDNAMobileNetV2',
        init_cfg=dict(type='Pretrained', checkpoint=str(file)))
    model.init_weights()
    said = said()
    assert 'missing keys' not in said
    if suffix == 'torchvision':
        unused = said.split('unexpected key in source state_dict: ')[1]
        assert unused.split(
            '\n')[0] == 'classifier.1.weight, classifier.1.bias'
    assert sum(' from ' in line for line in log) == len(children_of(model))
    assert all(0.5 < float(line.split()[5].rstrip(',')) < 1.5 for line in log
               if ' from ' in line)


def stock(name, host):
    """A stock network over which conv_cfg is all there is of KernelDNA."""
    arguments = dict(conv_cfg=dict(type='KernelDNA'))
    if name == 'ResNet':
        arguments.update(depth=18)
    else:
        arguments.update(conv_cfg=SHARED_1X1)
    return build(name, host, **arguments)


@pytest.mark.parametrize('host', HOSTS)
@pytest.mark.parametrize('name', ['ResNet', 'MobileNetV2'])
def test_stock_backbones(name, host):
    theirs = torchvision_net('resnet18' if name ==
                             'ResNet' else 'mobilenet_v2')
    ours = stock(name, host)
    net = build(name, host, **(dict(depth=18) if name == 'ResNet' else {}))
    weights = (
        theirs.state_dict() if name == 'ResNet' else _in_order(theirs, net))
    load(ours, theirs.state_dict())
    assert len(children_of(ours)) >= 7
    check_children(ours, weights, blocks_of(children_of(ours)))


def detector(**conv_cfg):
    """A small detector; with options, everything in it shares."""
    cfg = dict(type='KernelDNA', **conv_cfg) if conv_cfg else None
    return dict(
        type='mmdet.RetinaNet',
        backbone=dict(
            type='mmdet.ResNet',
            depth=18,
            base_channels=8,
            conv_cfg=cfg,
            norm_cfg=dict(type='BN'),
            norm_eval=False),
        neck=dict(
            type='mmdet.FPN',
            in_channels=[8, 16, 32, 64],
            out_channels=8,
            num_outs=5,
            conv_cfg=cfg),
        bbox_head=dict(
            type='mmdet.RetinaHead',
            num_classes=2,
            in_channels=8,
            feat_channels=8,
            stacked_convs=2,
            conv_cfg=cfg,
            anchor_generator=dict(
                type='mmdet.AnchorGenerator',
                scales=[4],
                ratios=[1.0],
                strides=[4, 8, 16, 32, 64]),
            bbox_coder=dict(type='mmdet.DeltaXYWHBBoxCoder')))


@pytest.mark.hosts('mmdet')
def test_a_whole_plain_detector_through_init_detector(tmp_path):
    from mmdet.apis import init_detector
    theirs = lively(MODELS.build(detector()))
    file = str(tmp_path / 'plain.pth')
    torch.save(dict(state_dict=theirs.state_dict(), meta={}), file)
    config = Config(
        dict(
            default_scope='mmdet',
            model=detector(share=False),
            test_dataloader=dict(dataset=dict(pipeline=[], type='x')),
            test_pipeline=[]))
    ours = init_detector(config, file, palette='coco', device='cpu')
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        for answer, expected in zip(
                sum(map(list, ours(x)), []), sum(map(list, theirs(x)), [])):
            torch.testing.assert_close(answer, expected, rtol=1e-4, atol=1e-6)
    shared = MODELS.build(detector(kernel_sizes=(3, )))
    load_checkpoint(shared, file)
    children = children_of(shared)
    assert {name.split('.')[0] for name in children} == \
        {'backbone', 'neck', 'bbox_head'}
    weights = theirs.state_dict()
    check_children(shared, weights, ['backbone.layer'])
    # The inputs' own weights as well as what is no convolution.
    assert torch.equal(shared.bbox_head.retina_cls.bias,
                       theirs.bbox_head.retina_cls.bias)
    for name, conv in children.items():
        if conv.bias is not None:
            assert torch.equal(conv.bias, weights[f'{name}.bias'])


@pytest.mark.parametrize('depth', [18, 50])
@pytest.mark.parametrize('train', [False, True])
def test_adapters_on_own_kernels_change_nothing(depth, train):
    theirs = lively(resnet(depth, sharing_stages=(), base_channels=16))
    ours = load(
        resnet(
            depth,
            base_channels=16,
            conv_cfg=dict(type='KernelDNA', share=False)), theirs.state_dict())
    weights = theirs.state_dict()
    for name in children_of(ours):
        assert torch.equal(ours.state_dict()[f'{name}.weight'],
                           weights[f'{name}.weight'])
    x = torch.randn(2, 3, 48, 48)
    torch.testing.assert_close(
        answer_of(ours, x, train),
        answer_of(theirs, x, train),
        rtol=1e-5,
        atol=1e-5)
    x = x.double()
    torch.testing.assert_close(
        answer_of(ours.double(), x, train),
        answer_of(theirs.double(), x, train),
        rtol=1e-9,
        atol=1e-11)


@pytest.mark.parametrize('host', HOSTS)
def test_adapters_on_a_mobilenets_own_kernels(host, log):
    theirs = lively(build('KernelDNAMobileNetV2', host, sharing_stages=()))
    ours = build(
        'KernelDNAMobileNetV2',
        host,
        conv_cfg=dict(type='KernelDNA', share=False))
    load(ours, theirs.state_dict())
    x = torch.randn(1, 3, 48, 48)
    torch.testing.assert_close(
        answer_of(ours, x), answer_of(theirs, x), rtol=1e-5, atol=1e-5)
    number = len(children_of(ours))
    assert log == [
        'KernelDNA: KernelDNAMobileNetV2 takes plain weights exactly; '
        f'{number} convolutions have a neutral adapter.'
    ]


def weights_of_kin(number=2, kernel_size=3, channels=8, **kwargs):
    return {
        f'0.{i}.{key}': value
        for i in range(number)
        for key, value in nn.Conv2d(channels, channels, kernel_size, **
                                    kwargs).state_dict().items()
    }


def test_half_weights_are_fitted_as_finely_as_others():
    weights = {k: v.half() for k, v in weights_of_kin().items()}
    module, other = make_kin().eval(), make_kin().eval()
    other.load_state_dict(module.state_dict())
    module.load_state_dict(weights)
    other.load_state_dict({k: v.float() for k, v in weights.items()})
    for key, value in module.state_dict().items():
        assert value.dtype in (torch.float32, torch.int64)
        assert torch.equal(value, other.state_dict()[key]), key


MODULATIONS = [('filter', 'spatial', 'channel'), ('spatial', 'channel'),
               ('filter', 'channel'), ('filter', 'spatial'), ('channel', ),
               ('filter', ), ('spatial', ), ()]


@pytest.mark.parametrize('modulation', MODULATIONS)
@pytest.mark.parametrize('kernel_size', [1, 3])
def test_own_kernels_are_exact_whatever_an_adapter_has(modulation,
                                                       kernel_size):
    module = make_kin(
        kernel_size=kernel_size,
        kernel_sizes=(1, 3),
        share=False,
        modulation=modulation).eval()
    stock = make_module({
        f'0.{i}': (8, 8, kernel_size, dict(padding=kernel_size // 2))
        for i in range(2)
    })
    weights = stock.state_dict()
    module.load_state_dict(weights)
    x = torch.randn(2, 8, 6, 6)
    parts = dict(stock.named_modules())
    for i in range(2):
        expected = nn.functional.conv2d(
            x,
            parts[f'0.{i}'].weight,
            parts[f'0.{i}'].bias,
            padding=kernel_size // 2)
        torch.testing.assert_close(module[0][i](x), expected)


@pytest.mark.parametrize('modulation', MODULATIONS)
@pytest.mark.parametrize('kernel_size', [1, 3])
def test_what_is_kept_of_a_childs_kernel(modulation, kernel_size, log):
    module = make_kin(
        kernel_size=kernel_size, kernel_sizes=(1, 3), modulation=modulation)
    weights = weights_of_kin(kernel_size=kernel_size)
    module.eval().load_state_dict(weights)
    child, parent = kernel_dna(module).values()
    gate = 0.5 if 'channel' in modulation else 1.
    effective = (child.kernel() * gate).detach()
    plain_kernel, source = weights['0.0.weight'], weights['0.1.weight']
    assert torch.equal(parent.weight, source)
    spatial = 'spatial' in modulation and kernel_size > 1
    if 'filter' in modulation:
        torch.testing.assert_close(
            effective.flatten(1).norm(dim=1),
            plain_kernel.flatten(1).norm(dim=1))
    elif spatial:
        torch.testing.assert_close(
            effective.flatten(0, 1).norm(dim=0),
            plain_kernel.flatten(0, 1).norm(dim=0))
    else:
        torch.testing.assert_close(effective, source * gate)
    # The log tells of what is computed, a gate's factor included.
    error = (effective - plain_kernel).norm() / plain_kernel.norm()
    row, = [line for line in log if ' from ' in line]
    assert float(row.split()[5].rstrip(',')) == pytest.approx(
        float(error), abs=6e-4)


def test_a_child_that_is_its_parent_but_for_factors_comes_back():
    weights = weights_of_kin()
    filters = torch.rand(8, 1, 1, 1) + 0.5
    spatial = torch.rand(1, 1, 3, 3) + 0.5
    weights['0.0.weight'] = weights['0.1.weight'] * filters * spatial
    module = make_kin()
    module.load_state_dict(weights)
    child, _ = kernel_dna(module).values()
    effective = child.kernel().detach() / 2
    torch.testing.assert_close(effective, weights['0.0.weight'])


def test_a_dead_parent_filter_gets_no_endless_factor():
    weights = weights_of_kin()
    weights['0.1.weight'][3] = 0
    module = make_kin()
    module.load_state_dict(weights)
    assert module[0][0].adapter.filter.isfinite().all()
    assert float(module[0][0].adapter.filter.detach()[3]) == 1


def test_a_new_parent_in_resnet50():
    theirs = torchvision_net('resnet50')
    ours = load(resnet(50), theirs.state_dict())
    assert children_of(ours)['layer3.5.conv2'].parent_name == 'layer3.6.conv2'
    assert torch.equal(ours.layer3[6].conv2.weight,
                       theirs.layer3[5].conv2.weight)
    assert float(ours.layer3[6].bn3.weight.detach().abs().max()) == 0
    assert float(ours.layer3[5].bn3.weight.detach().abs().min()) >= 0.5


def test_a_checkpoint_with_adapters_is_loaded_as_it_is():
    ours, twin = resnet(18, base_channels=16), resnet(18, base_channels=16)
    for parameter in ours.parameters():
        nn.init.normal_(parameter)
    state_dict = ours.state_dict()
    load(twin, state_dict, strict=True)
    assert all(
        torch.equal(value, state_dict[key])
        for key, value in twin.state_dict().items())
    twin.load_state_dict(state_dict)
    for key in ('layer3.0.conv2.adapter.filter', 'layer3.1.conv2.weight',
                'conv1.weight'):
        cut = {k: v for k, v in state_dict.items() if k != key}
        with pytest.raises(RuntimeError, match=f'missing.*{key}'):
            load(twin, cut, strict=True)
        with pytest.raises(RuntimeError, match=key):
            twin.load_state_dict(cut)


def test_plain_weights_that_lack_a_key_are_an_error_when_strict():
    theirs = resnet(18, base_channels=16, sharing_stages=())
    ours = resnet(18, base_channels=16)
    state_dict = theirs.state_dict()
    load(ours, state_dict, strict=True)
    ours.load_state_dict(state_dict)
    for key in ('layer3.0.conv2.weight', 'layer3.1.conv1.weight',
                'layer2.0.bn1.running_var'):
        cut = {k: v for k, v in state_dict.items() if k != key}
        with pytest.raises(RuntimeError, match=r'layer[23]\.\d\.'):
            load(ours, cut, strict=True)


@pytest.mark.parametrize(
    'loader', [load, lambda model, weights: model.load_state_dict(weights)])
def test_the_users_state_dict_stays_as_it_is(loader):
    state_dict = resnet(18, base_channels=16, sharing_stages=()).state_dict()
    before = {key: value.clone() for key, value in state_dict.items()}
    loader(resnet(18, base_channels=16), state_dict)
    assert list(state_dict) == list(before)
    assert all(torch.equal(state_dict[key], before[key]) for key in before)


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_takes_weights_for_itself(duplicate):
    state_dict = resnet(18, base_channels=16, sharing_stages=()).state_dict()
    ours = resnet(18, base_channels=16)
    before = {k: v.clone() for k, v in ours.state_dict().items()}
    twin = duplicate(nn.ModuleDict(dict(backbone=ours)))
    load(twin, {f'backbone.{k}': v for k, v in state_dict.items()}, True)
    assert all(
        torch.equal(value, before[key])
        for key, value in ours.state_dict().items())
    load(ours, state_dict, True)
    for key, value in twin['backbone'].state_dict().items():
        if 'fc1' not in key:
            assert torch.equal(value, ours.state_dict()[key]), key


def test_loading_twice():
    first, second = (
        lively(resnet(18, base_channels=16, sharing_stages=())).state_dict()
        for _ in range(2))
    ours, fresh = resnet(18, base_channels=16), resnet(18, base_channels=16)
    load(ours, first)
    load(ours, second)
    load(fresh, second)
    for key, value in fresh.state_dict().items():
        if 'fc1' not in key and not key.endswith('num_batches_tracked'):
            assert torch.equal(value, ours.state_dict()[key]), key
    # Nor does what it saves count as plain weights.
    load(fresh, ours.state_dict(), strict=True)


@pytest.mark.parametrize('ours, theirs', [(18, 50), (50, 18)])
def test_a_checkpoint_of_another_depth(ours, theirs, said):
    weights = torchvision_net(f'resnet{theirs}').state_dict()
    model = resnet(ours)
    load_state_dict(model, weights, logger='current')
    said = said()
    assert 'do not match exactly' in said
    if ours == 18:
        assert (
            'size mismatch for layer3.1.conv1.weight: a kernel of shape '
            '(256, 1024, 1, 1) is given, (256, 256, 3, 3) is expected') in said
    assert 'size mismatch for layer2.0.conv1.weight' in said
    with pytest.raises(RuntimeError, match='layer3'):
        load(resnet(ours), weights, strict=True)
    with pytest.raises(RuntimeError, match='layer3'):
        resnet(ours).load_state_dict(weights)


def test_a_mobilenet_of_another_width(said):
    weights = torchvision_net('mobilenet_v2').state_dict()
    model = build('KernelDNAMobileNetV2', widen_factor=0.5)
    load_state_dict(model, weights, logger='current')
    said = said()
    assert ('features.0.0.weight of shape (32, 3, 3, 3) stands in the place '
            'of conv1.conv.weight of shape (16, 3, 3, 3)') in said
    assert 'unexpected key in source state_dict: features.0.0.weight' in said


def test_a_mobilenet_that_lacks_a_key_is_not_shifted():
    weights = build('KernelDNAMobileNetV2', sharing_stages=()).state_dict()
    for key in ('conv2.bn.weight', 'layer3.1.conv.0.bn.bias'):
        cut = {k: v for k, v in weights.items() if k != key}
        model = build('KernelDNAMobileNetV2')
        with pytest.raises(RuntimeError, match=f'missing.*{key}'):
            load(model, cut, strict=True)
        assert torch.equal(model.conv2.bn.running_var,
                           weights['conv2.bn.running_var'])


def test_weights_of_something_else_leave_the_module_alone(log):
    model = resnet(18, base_channels=16)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    load(model, {'head.fc.weight': torch.ones(2, 2)})
    assert all(
        torch.equal(value, before[key])
        for key, value in model.state_dict().items())
    assert log == []


def test_half_and_double_precision():
    weights = {k: v.double() for k, v in weights_of_kin().items()}
    module = make_kin(share=False).double().eval()
    module.load_state_dict(weights)
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    expected = nn.functional.conv2d(
        x, weights['0.0.weight'], weights['0.0.bias'], padding=1)
    torch.testing.assert_close(
        module[0][0](x), expected, rtol=1e-13, atol=1e-13)
    half = {k: v.half() for k, v in weights.items()}
    module = make_kin()
    module.load_state_dict(half)
    assert torch.equal(module[0][1].weight, half['0.1.weight'].float())
    assert module[0][0].adapter.filter.isfinite().all()


def test_kept_kernels_start_exactly():
    theirs = lively(resnet(18, base_channels=16, sharing_stages=()))
    ours = load(
        resnet(
            18,
            base_channels=16,
            conv_cfg=dict(type='KernelDNA', keep_own_kernel=True)),
        theirs.state_dict(), True)
    x = torch.randn(2, 3, 48, 48)
    for train in (False, True):
        torch.testing.assert_close(
            answer_of(ours, x, train),
            answer_of(theirs, x, train),
            rtol=1e-4,
            atol=1e-5)
