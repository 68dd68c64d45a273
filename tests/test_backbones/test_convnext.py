"""A ConvNeXt that shares, over MMPretrain's class."""
import copy

import pytest
import torch
from mmengine.config import Config
from mmengine.optim import build_optim_wrapper
from mmengine.registry import MODELS, init_default_scope
from torch import nn

from mmkdna import KernelDNAConv2d, switch_to_deploy
from mmkdna.deploy import deploy_config, plain_config
from tests.runs import CONFIGS
from tests.utils import children_of, kernel_dna, randomize, relative_error

SMALL = dict(depths=[2, 2, 5, 3], channels=[8, 16, 24, 32])
POINTWISE = ('pointwise_conv1', 'pointwise_conv2')
# Blocks of stages 3 and 4, child to parent.
PAIRS = {
    'tiny': ([(1, 2), (3, 4), (5, 6), (7, 8)], [(1, 2)]),
    'small': ([(i, i + 1) for i in range(1, 27, 2)], [(1, 2)]),
    'base': ([(i, i + 1) for i in range(1, 27, 2)], [(1, 2)]),
}
DOWNSTREAM = dict(
    mmdet='mask_rcnn/mask-rcnn_convnext-t-kdna-p4-w7_fpn_amp-ms-crop-3x_coco',
    mmseg='upernet/upernet_convnext-t-kdna_8xb2-amp-160k_ade20k-512x512')


def build(arch=SMALL, kind='KernelDNAConvNeXt', **arguments):
    cfg = dict(type=f'mmpretrain.{kind}', arch=arch, **arguments)
    return MODELS.build(copy.deepcopy(cfg))


def lively(model):
    """Values that leave a trace, of a size at which the blocks matter."""
    randomize(model)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() > 1:
                parameter.div_(parameter[0].numel()**0.5 / 2)
    # The host's returns nothing.
    model.eval()
    return model


def links_of(model):
    return {n: conv.parent_name for n, conv in children_of(model).items()}


def pairs(stage, blocks, layers=POINTWISE):
    return {
        f'stages.{stage - 1}.{child}.{layer}':
        f'stages.{stage - 1}.{parent}.{layer}'
        for child, parent in blocks
        for layer in layers
    }


@pytest.mark.parametrize('arch, parameters, plain', [
    ('tiny', 22_126_408, 28_589_128),
    ('small', 36_499_912, 50_223_688),
    ('base', 64_165_480, 88_591_464),
])
def test_links_and_parameters_as_a_classifier(arch, parameters, plain):
    config = Config.fromfile(CONFIGS /
                             f'convnext/kdna-convnext-{arch}_32xb128_in1k.py')
    control = Config.fromfile(
        CONFIGS / f'convnext/kdna-convnext-{arch}-plain_32xb128_in1k.py')
    init_default_scope('mmpretrain')
    for cfg, number in ((config, parameters), (control, plain)):
        model = MODELS.build(cfg.model)
        assert sum(p.numel() for p in model.parameters()) == number
        third, fourth = PAIRS[arch]
        links = dict(pairs(3, third), **pairs(4, fourth))
        assert links_of(model.backbone) == ({} if cfg is control else links)


@pytest.mark.parametrize('stages, children', [
    ((), []),
    ((1, ), []),
    ((4, ), [(4, 1)]),
    ([2, 3], [(3, 1), (3, 3)]),
])
@pytest.mark.filterwarnings('ignore:KernelDNA')
def test_sharing_stages(stages, children):
    model = build(sharing_stages=stages)
    assert set(links_of(model)) == {
        f'stages.{stage - 1}.{block}.{layer}'
        for stage, block in children
        for layer in POINTWISE
    }
    for name, layer in model.named_modules():
        if name.endswith(POINTWISE):
            shares = int(name[7]) + 1 in stages
            kind = KernelDNAConv2d if shares else nn.Linear
            assert type(layer) is kind, name
        elif isinstance(layer, KernelDNAConv2d):
            assert name.endswith('depthwise_conv')
            assert int(name[7]) + 1 in stages


def test_stages_of_one_width_do_not_share_with_each_other():
    model = build(dict(depths=[2, 2, 2, 3], channels=[8] * 4))
    assert links_of(model) == pairs(4, [(1, 2)])


def test_the_first_parent_of_an_odd_number_serves_two():
    model = build(dict(SMALL, depths=[1, 1, 6, 2]))
    assert links_of(model) == pairs(3, [(1, 3), (2, 3), (4, 5)])


@pytest.mark.parametrize('options, layers', [
    (dict(kernel_sizes=((1, 1), (7, 7)), grouped=True),
     ('depthwise_conv', *POINTWISE)),
    (dict(kernel_sizes=(7, ), grouped=True), ('depthwise_conv', )),
    (dict(name_pattern=r'\.(?!0\.)\d+\.pointwise_conv1'), POINTWISE[:1]),
])
def test_conv_cfg_chooses_the_layers(options, layers):
    model = build(conv_cfg=dict(type='KernelDNA', rd_ratio=0.5, **options))
    links = dict(
        pairs(3, [(1, 2), (3, 4)], layers), **pairs(4, [(1, 2)], layers))
    assert links_of(model) == links
    for name, conv in children_of(model).items():
        channels = SMALL['channels'][int(name[7])]
        assert conv.adapter.gate.fc1.out_features == channels // 2
        assert conv.groups == (1 if 'point' in name else channels)


HOST_OPTIONS = [
    dict(),
    dict(linear_pw_conv=False, stem_patch_size=2, in_channels=1),
    dict(use_grn=True, layer_scale_init_value=0., drop_path_rate=0.3),
    dict(out_indices=[0, 1, 2, 3], gap_before_final_norm=False),
]


def answers(model, x):
    with torch.no_grad():
        return model(x)


@pytest.mark.parametrize('arguments', HOST_OPTIONS)
def test_the_control_is_the_hosts_network(arguments):
    theirs = lively(build(kind='ConvNeXt', **arguments))
    control = build(sharing_stages=(), **arguments)
    control.eval()
    control.load_state_dict(theirs.state_dict())
    x = torch.randn(2, arguments.get('in_channels', 3), 64, 64)
    expected = answers(theirs, x)
    assert len(expected) == len(arguments.get('out_indices', [-1]))
    for ours, host in zip(answers(control, x), expected):
        assert torch.equal(ours, host)


@pytest.mark.parametrize('arguments', HOST_OPTIONS)
@pytest.mark.parametrize('kinds, grouped', [((1, ), False), ((1, 7), True)])
def test_adapters_on_own_kernels_start_as_the_hosts_network(
        arguments, kinds, grouped):
    theirs = lively(build(kind='ConvNeXt', **arguments))
    ours = build(
        conv_cfg=dict(
            type='KernelDNA', share=False, kernel_sizes=kinds,
            grouped=grouped),
        **arguments)
    ours.eval()
    assert len(children_of(ours)) == 6 * (len(kinds) + 1)
    ours.load_state_dict(theirs.state_dict())
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.float64, 1e-10)):
        x = torch.randn(
            2, arguments.get('in_channels', 3), 64, 64, dtype=dtype)
        for our, host in zip(
                answers(ours.to(dtype), x), answers(theirs.to(dtype), x)):
            assert relative_error(our, host) < tolerance


@pytest.mark.parametrize('use_grn', [False, True])
def test_deploying_changes_no_output(use_grn):
    model = lively(build(use_grn=use_grn))
    x = torch.randn(2, 3, 64, 64)
    before, = answers(model, x)
    switch_to_deploy(model)
    assert not children_of(model)
    after, = answers(model, x)
    assert relative_error(after, before) < 1e-5
    # What the deployed config builds takes the deployed weights.
    built = build(
        conv_cfg=dict(type='KernelDNA', deploy=True), use_grn=use_grn)
    built.load_state_dict(model.state_dict())
    built.eval()
    assert torch.equal(answers(built, x)[0], after)


def test_with_cp_gives_equal_gradients():
    plain, saving = [build(with_cp=with_cp) for with_cp in (False, True)]
    lively(plain)
    saving.load_state_dict(plain.state_dict())
    x = torch.randn(2, 3, 64, 64, requires_grad=True)
    for model in (plain, saving):
        model.train()
        model(x)[0].square().mean().backward()
    theirs = dict(saving.named_parameters())
    for name, parameter in plain.named_parameters():
        assert parameter.grad is not None, name
        torch.testing.assert_close(theirs[name].grad, parameter.grad, msg=name)


def test_one_image_trains():
    model = build(layer_scale_init_value=1.)
    model.init_weights()
    model.train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    x = torch.randn(1, 3, 64, 64)
    losses = []
    for _ in range(5):
        loss = (model(x)[0] - 1).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0]
    for name, conv in children_of(model).items():
        assert float((conv.adapter.filter - 1).abs().max()) > 0, name


@pytest.mark.parametrize('frozen', [0, 3, 4])
def test_frozen_stages_freeze_the_adapters(frozen):
    model = build(frozen_stages=frozen)
    for _ in range(2):
        for name, conv in kernel_dna(model).items():
            freezes = int(name[7]) < frozen
            for parameter in conv.parameters():
                assert parameter.requires_grad != freezes
            for module in conv.modules():
                assert module.training != freezes
        model.train()


def test_init_weights():
    """As all layers of a ConvNeXt, and the static factors stay neutral."""
    model = build()
    model.init_weights()
    for name, conv in kernel_dna(model).items():
        assert not conv.bias.any()
        if conv.role != 'child':
            assert float(conv.weight.std()) == pytest.approx(0.02, rel=0.2)
            continue
        assert torch.equal(conv.adapter.filter,
                           torch.ones_like(conv.adapter.filter))
        gate = conv.adapter.gate(torch.randn(4, conv.in_channels, 3, 3))
        assert 0.3 < float(gate.min()) and float(gate.max()) < 0.7


@pytest.mark.parametrize('stages', [(0, ), (3, 5), ('stages.2', )])
def test_no_such_stage(stages):
    with pytest.raises(ValueError) as error:
        build(sharing_stages=stages)
    assert f'sharing_stages={stages}' in str(error.value)
    assert '(1, 2, 3, 4) is expected, or ()' in str(error.value)


@pytest.mark.parametrize('conv_cfg', [dict(type='DCNv2'), None])
def test_a_foreign_conv_type(conv_cfg):
    with pytest.raises(ValueError, match="type='KernelDNA', ...* is expected"):
        build(conv_cfg=conv_cfg, sharing_stages=())


@pytest.mark.parametrize('scope', DOWNSTREAM)
def test_learning_rates_that_decay_with_depth(scope):
    """A child's parameters learn as fast as its block's."""
    config = Config.fromfile(CONFIGS / f'{DOWNSTREAM[scope]}.py')
    init_default_scope(scope)
    model = nn.Module()
    config.model.backbone.update(arch=SMALL)
    model.backbone = MODELS.build(config.model.backbone)
    # Half precision needs a GPU.
    config.optim_wrapper.type = 'OptimWrapper'
    config.optim_wrapper.pop('loss_scale', None)
    optimizer = build_optim_wrapper(model, config.optim_wrapper).optimizer
    rates = {
        p: group['lr']
        for group in optimizer.param_groups
        for p in group['params']
    }
    assert len(rates) == len(list(model.parameters()))
    children = 0
    for block in (b for stage in model.backbone.stages for b in stage):
        assert len({rates[p] for p in block.parameters()}) == 1
        children += len(children_of(block))
    assert children == 6
    assert len(set(rates.values())) > 3


@pytest.mark.hosts('mmdet')
def test_the_other_forms_know_it_by_its_prefix():
    config = Config.fromfile(CONFIGS / f'{DOWNSTREAM["mmdet"]}.py')
    init_default_scope('mmdet')
    plain = plain_config(config).model.backbone
    plain.update(arch=SMALL)
    assert not kernel_dna(MODELS.build(plain))
    deployed = deploy_config(config).model.backbone
    deployed.update(arch=SMALL)
    convs = kernel_dna(MODELS.build(deployed)).values()
    assert sum(conv.adapter is not None for conv in convs) == 6
    assert all(conv.role != 'child' for conv in convs)
