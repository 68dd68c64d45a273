"""What is true of every conv type that KernelDNA is compared with."""
import copy
import io
import pickle
import warnings
from importlib import import_module

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmcv.cnn.utils import fuse_conv_bn
from mmengine.model import BaseModule, ExponentialMovingAverage
from mmengine.registry import DefaultScope
from torch import nn

from mmkdna import link_kernels
from mmkdna.rivals import CONV_TYPES
from mmkdna.rivals.rival import Rival
from tests.runs import real_data
from tests.test_rivals.cases import make
from tests.utils import compiles, make_images, randomize, relative_error

RESNET = dict(
    type='ResNet',
    depth=18,
    base_channels=8,
    stem_channels=8,
    style='pytorch',
    norm_cfg=dict(type='BN'))
GEOMETRY = dict(kernel_size=3, padding=1)
every = pytest.mark.parametrize('kind', list(CONV_TYPES))


def build(host, **cfg):
    """Whatever a host library builds."""
    pytest.importorskip(host)
    registry = import_module(f'{host}.registry').MODELS
    with DefaultScope.overwrite_default_scope(host):
        return registry.build(cfg)


def detector(conv_cfg):
    return build(
        'mmdet',
        type='RetinaNet',
        data_preprocessor=dict(type='DetDataPreprocessor'),
        backbone=dict(RESNET, conv_cfg=conv_cfg, out_indices=(1, 2, 3)),
        neck=dict(
            type='FPN',
            in_channels=[16, 32, 64],
            out_channels=16,
            num_outs=3,
            conv_cfg=conv_cfg),
        bbox_head=dict(
            type='RetinaHead',
            num_classes=2,
            in_channels=16,
            feat_channels=16,
            stacked_convs=2,
            conv_cfg=conv_cfg,
            anchor_generator=dict(
                type='AnchorGenerator',
                octave_base_scale=4,
                scales_per_octave=1,
                ratios=[1.0],
                strides=[8, 16, 32])),
        train_cfg=dict(
            assigner=dict(
                type='MaxIoUAssigner',
                pos_iou_thr=0.5,
                neg_iou_thr=0.4,
                min_pos_iou=0),
            sampler=dict(type='PseudoSampler'),
            allowed_border=-1,
            pos_weight=-1))


def segmentor(conv_cfg):
    return build(
        'mmseg',
        type='EncoderDecoder',
        data_preprocessor=dict(type='SegDataPreProcessor', size=(64, 64)),
        backbone=dict(
            type='MobileNetV2',
            widen_factor=0.25,
            norm_cfg=dict(type='BN'),
            conv_cfg=conv_cfg),
        decode_head=dict(
            type='UPerHead',
            in_channels=[8, 8, 24, 80],
            in_index=[0, 1, 2, 3],
            channels=8,
            num_classes=2,
            # Its pooling to 1x1 leaves a batch norm one value.
            norm_cfg=dict(type='GN', num_groups=2),
            conv_cfg=conv_cfg),
        train_cfg=dict(),
        test_cfg=dict(mode='whole'))


def classifier(conv_cfg):
    return build(
        'mmpretrain',
        type='ImageClassifier',
        data_preprocessor=dict(num_classes=2),
        backbone=dict(RESNET, conv_cfg=conv_cfg),
        neck=dict(type='GlobalAveragePooling'),
        head=dict(type='LinearClsHead', num_classes=2, in_channels=64))


MODELS = {
    'mmdet': (detector, ('backbone', 'neck', 'bbox_head')),
    'mmseg': (segmentor, ('backbone', 'decode_head')),
    'mmpretrain': (classifier, ('backbone', ))
}


def rivals(module):
    """Those that take part, by name."""
    return {
        name: conv
        for name, conv in module.named_modules()
        if isinstance(conv, Rival) and conv.dynamic
    }


def outputs(net, x, train=False):
    """What a network answers, in one tensor."""
    # Some train() of the host libraries return nothing.
    net.train(train)
    out = net(x)
    out = out if isinstance(out, (list, tuple)) else [out]
    return torch.cat([level.flatten() for level in out])


def chain(kind, number=3, channels=16, **options):
    """A unit in which several convolutions take part, in float32."""
    convs = [dict(GEOMETRY, in_channels=channels, out_channels=channels)
             ] * number
    return make(kind, *convs, **options).float()


@every
def test_a_direct_subclass_of_conv2d(kind):
    # Where mmengine looks for init_cfg's layer='Conv2d', beside the name.
    assert nn.Conv2d in CONV_TYPES[kind].__bases__
    assert type(build_conv_layer(dict(type=kind), 4, 6, 3)) is CONV_TYPES[kind]


@every
@pytest.mark.parametrize('arguments', [
    dict(),
    dict(stride=2, padding=1, bias=False),
    dict(groups=2, dilation=2, padding='same', padding_mode='reflect'),
    dict(dtype=torch.float64),
])
@pytest.mark.parametrize('linked', [False, True])
def test_what_takes_no_part_is_a_plain_convolution(kind, arguments, linked):
    torch.manual_seed(3)
    stock = nn.Conv2d(4, 6, 3, **arguments)
    next_number = torch.rand(1)
    torch.manual_seed(3)
    conv = CONV_TYPES[kind](4, 6, 3, min_channels=5, **arguments)
    with warnings.catch_warnings():
        warnings.simplefilter('ignore')
        if linked:
            link_kernels(nn.Sequential(nn.Sequential(conv)))
        assert torch.equal(torch.rand(1), next_number)
        theirs, ours = stock.state_dict(), conv.state_dict()
        assert list(ours) == list(theirs)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs)
        x = torch.randn(2, 4, 8, 8, dtype=stock.weight.dtype)
        assert torch.equal(conv(x), stock(x))


@every
def test_a_memory_format_is_taken(kind):
    unit = chain(kind).eval()
    x = torch.randn(2, 16, 6, 6)
    expected = unit(x)
    last = dict(memory_format=torch.channels_last)
    unit.to(**last)
    assert relative_error(unit(x.to(**last)), expected) <= 1e-5


@every
@pytest.mark.parametrize('host', MODELS)
def test_one_image_trains(kind, host):
    make_model, units = MODELS[host]
    # MobileNetV2's only dense convolutions behind the stem are 1x1.
    conv_cfg = dict(type=kind, name_pattern='^(?!conv1)')
    if host == 'mmseg':
        conv_cfg.update(kernel_sizes=(1, 3))
    model = make_model(conv_cfg)
    model.init_weights()
    model.train()
    data = model.data_preprocessor(make_images(host), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert loss.isfinite()
    loss.backward()
    for unit in units:
        module = model.get_submodule(unit)
        inside = set(module.modules())
        found = rivals(module)
        assert found, unit
        for name, conv in found.items():
            held = [
                item for value in vars(conv).values()
                if isinstance(value, tuple) for item in value
                if isinstance(item, nn.Module)
            ]
            assert inside.issuperset(held), f'{name} holds what is outside'
            for key, parameter in conv.named_parameters():
                assert parameter.grad.isfinite().all(), f'{name}.{key}'


@every
def test_copies_are_independent_and_equal(kind):
    unit = randomize(chain(kind))
    x = torch.randn(2, 16, 5, 5)
    expected = outputs(unit, x).detach()
    other = chain(kind)
    other.load_state_dict(unit.state_dict())
    file = io.BytesIO()
    torch.save(unit, file)
    file.seek(0)
    copies = [
        other,
        copy.deepcopy(unit),
        pickle.loads(pickle.dumps(unit)),
        torch.load(file, weights_only=False),
        ExponentialMovingAverage(unit).module
    ]
    with torch.no_grad():
        for parameter in unit.parameters():
            parameter.zero_()
    for twin in copies:
        assert torch.equal(outputs(twin, x), expected)
        inside = set(map(id, twin.parameters()))
        assert inside.isdisjoint(map(id, unit.parameters()))


@every
def test_an_average_follows(kind):
    unit = chain(kind)
    average = ExponentialMovingAverage(unit, momentum=0.25)
    average.update_parameters(unit)
    before = copy.deepcopy(unit)
    average.update_parameters(randomize(unit))
    for mean, old, new in zip(average.module.parameters(), before.parameters(),
                              unit.parameters()):
        # Each moves once.
        torch.testing.assert_close(mean, old.lerp(new, 0.25))


@every
def test_frozen_stages_freeze_all_of_it(kind):
    backbone = build(
        'mmdet', **RESNET, frozen_stages=1, conv_cfg=dict(type=kind))
    for _ in range(2):
        frozen = {
            name
            for name, p in backbone.named_parameters() if not p.requires_grad
        }
        assert rivals(backbone.layer1) and frozen == {
            name
            for name, _ in backbone.named_parameters()
            if name.split('.')[0] in ('layer1', 'bn1', 'conv1')
        }
        modules = [
            m for conv in rivals(backbone.layer1).values()
            for m in conv.modules()
        ]
        backbone.train()
        assert not any(module.training for module in modules)


@every
def test_the_hosts_initialiser_reaches_every_expert(kind):

    class Unit(BaseModule):

        def __init__(self):
            super().__init__(
                init_cfg=dict(type='Normal', std=0.01, layer='Conv2d'))
            self.stage = nn.Sequential(
                *[CONV_TYPES[kind](16, 16, 3) for _ in range(2)])

    unit = Unit()
    link_kernels(unit)
    assert len(rivals(unit)) == 2
    before = copy.deepcopy(unit.state_dict())
    unit.init_weights()
    after = unit.state_dict()
    kernels = [key for key, value in after.items() if value.dim() > 2]
    assert kernels
    for key in kernels:
        kernel = after[key]
        for expert in kernel[None] if kernel.dim() == 4 else kernel:
            assert 0.007 < expert.std() < 0.013, key
            assert not any(
                torch.equal(expert, other) for other in kernel if
                other is not expert and other.data_ptr() != expert.data_ptr())
    # Attentions keep the start they were given.
    for key in set(after) - set(kernels):
        assert key.endswith('.bias') or torch.equal(after[key], before[key])


@every
@pytest.mark.parametrize('host', ['mmdet', 'mmpretrain', 'mmseg'])
def test_checkpointing_changes_nothing(kind, host):
    nets = [
        build(host, **RESNET, conv_cfg=dict(type=kind), with_cp=with_cp)
        for with_cp in (False, True)
    ]
    nets[1].load_state_dict(nets[0].state_dict())
    image = torch.rand(2, 3, 32, 32).double()
    found = []
    for net in nets:
        net.double()
        x = image.clone().requires_grad_()
        out = outputs(net, x, train=True)
        out.square().sum().backward()
        found.append([out, x.grad] + [p.grad for p in net.parameters()])
    for one, other in zip(*found):
        assert (one is None) == (other is None)
        if one is not None:
            torch.testing.assert_close(one, other)


@every
def test_folding_a_norm_is_exact_or_refused(kind):
    module = nn.Sequential(
        nn.Sequential(
            ConvModule(
                16,
                16,
                3,
                conv_cfg=dict(type=kind),
                norm_cfg=dict(type='BN'),
                act_cfg=None)))
    link_kernels(module)
    randomize(module).eval()
    x = torch.randn(2, 16, 5, 5)
    expected = module(x)
    try:
        fused = fuse_conv_bn(copy.deepcopy(module))
    except (AttributeError, RuntimeError) as error:
        assert 'fus' in str(error) and 'norm' in str(error)
    else:
        torch.testing.assert_close(fused(x), expected, rtol=1e-4, atol=1e-4)


# With options by which a forward is another.
COMPILED = [(kind, {}, 2) for kind in CONV_TYPES] + [
    ('CondConv', dict(routing='block'), 2),
    ('ODConv', dict(num_experts=4), 2),
    # With one image a norm of what pooling leaves has its running statistics.
    ('ODConv', {}, 1),
    ('KernelWarehouse', dict(ratio=0.5), 1),
]


@compiles
@pytest.mark.parametrize('kind, options, images', COMPILED)
@pytest.mark.parametrize('train', [True, False])
def test_compiles_in_one_piece(kind, options, images, train):
    torch._dynamo.reset()
    unit = chain(kind, **options)
    compiled = torch.compile(
        copy.deepcopy(unit), fullgraph=True, backend='eager')
    x = torch.randn(images, 16, 5, 5)
    ours, theirs = (outputs(net, x, train) for net in (compiled, unit))
    torch.testing.assert_close(ours, theirs)
    if train:
        for net in (ours, theirs):
            net.square().sum().backward()
        for one, other in zip(compiled.parameters(), unit.parameters()):
            torch.testing.assert_close(one.grad, other.grad)


@every
def test_bad_options(kind):
    conv = CONV_TYPES[kind]
    with pytest.raises(TypeError, match=f'{kind}: widths is given, but'):
        conv(4, 4, 3, widths=3)
    with pytest.raises(ValueError, match=f'{kind}: min_channels=-1'):
        conv(4, 4, 3, min_channels=-1)
    with pytest.raises(ValueError, match=f'{kind}: name_pattern='):
        conv(4, 4, 3, name_pattern='(')


@every
def test_a_pattern_that_matches_nothing(kind):
    convs = nn.Sequential(CONV_TYPES[kind](4, 4, 3, name_pattern='layer9'))
    with pytest.raises(ValueError, match=f'{kind}: .*layer9.*none of the 1'):
        link_kernels(nn.Sequential(convs))
    assert not convs[0].dynamic and not convs[0].linked


@every
def test_it_says_where_none_takes_part(kind):
    convs = nn.Sequential(CONV_TYPES[kind](4, 4, 1))
    with pytest.warns(UserWarning, match=f'{kind}: of 1 convolutions none'):
        link_kernels(nn.Sequential(convs))


@every
@pytest.mark.parametrize('train', [True, False])
def test_no_gradient_is_lost_without_images(kind, train):
    unit = chain(kind)
    x = torch.randn(0, 16, 5, 5)
    unit.train(train)
    out = unit(x)
    assert out.shape == (0, 16, 5, 5)
    out.sum().backward()
    assert all(p.grad is not None for p in unit.parameters())


@every
@pytest.mark.parametrize('layout', ['mmdet', 'torchvision'])
def test_real_weights_start_at_the_plain_network(kind, layout, said):
    folder = real_data('weights')

    def mobilenet(host, layout, **arguments):
        file = folder / f'mobilenet_v2_imagenet_{layout}.pth'
        net = build(
            host,
            type='MobileNetV2',
            out_indices=(7, ),
            init_cfg=dict(type='Pretrained', checkpoint=str(file)),
            **arguments)
        net.init_weights()
        return net

    plain = mobilenet('mmdet', 'mmdet')
    unit = mobilenet(
        'mmpretrain',
        layout,
        conv_cfg=dict(
            type=kind, kernel_sizes=(1, ), name_pattern=r'^layer[45]'))
    assert len(rivals(unit)) == 2 * (4 + 3)
    assert 'missing keys' not in said()
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        # Of one filter all weights are zero, and its norm's factor is large:
        # it shows how sums of experts are rounded.
        error = relative_error(outputs(unit, x), outputs(plain, x))
    assert error < 2e-3
