"""The deploy form: equal outputs, and no way to fuse wrongly before it."""
import warnings
from copy import deepcopy

import pytest
import torch
from mmcv.cnn import ConvModule, fuse_conv_bn
from mmcv.cnn.utils.fuse_conv_bn import _fuse_conv_bn
from mmengine.config import Config
from mmengine.model.efficient_conv_bn_eval import \
    turn_on_efficient_conv_bn_eval
from mmengine.registry import MODELS
from torch import nn
from torch.nn.utils import fuse_conv_bn_eval, parametrizations, prune
from torch.nn.utils import spectral_norm as old_spectral_norm
from torch.nn.utils import weight_norm as old_weight_norm

from mmkdna import (KernelDNAConv2d, link_kernels, sharing_table,
                    switch_to_deploy)
from mmkdna.deploy import (deploy_config, fold_constant_gates, plain_config,
                           ungated_config)
from mmkdna.launch.model import init_model
from tests.runs import load_tool, run_tool
from tests.utils import children_of, kernel_dna, make_kin, randomize

TOOL = 'model_converters/switch_to_deploy'
CONV = dict(type='KernelDNA')
RESNET = dict(
    type='mmpretrain.KernelDNAResNet',
    depth=18,
    base_channels=8,
    stem_channels=8,
    out_indices=(0, 1, 2, 3))
DETECTOR = dict(
    type='mmdet.RetinaNet',
    backbone=dict(RESNET, type='mmdet.KernelDNAResNet'),
    neck=dict(
        type='mmdet.FPN',
        in_channels=[8, 16, 32, 64],
        out_channels=8,
        num_outs=5,
        conv_cfg=CONV,
        norm_cfg=dict(type='BN')),
    bbox_head=dict(
        type='mmdet.RetinaHead',
        num_classes=2,
        in_channels=8,
        feat_channels=8,
        conv_cfg=CONV))
SEGMENTOR = dict(
    type='mmseg.EncoderDecoder',
    backbone=dict(RESNET, type='mmseg.KernelDNAResNet'),
    decode_head=dict(
        type='mmseg.UPerHead',
        num_classes=3,
        in_channels=[8, 16, 32, 64],
        in_index=[0, 1, 2, 3],
        channels=8,
        conv_cfg=CONV,
        norm_cfg=dict(type='BN'),
        align_corners=False))
MODEL_CFGS = dict(
    resnet18=RESNET,
    resnet50=dict(RESNET, depth=50),
    mobilenet_v2=dict(
        type='mmpretrain.KernelDNAMobileNetV2', widen_factor=0.25),
    own_kernels=dict(RESNET, conv_cfg=dict(CONV, share=False)),
    group_norm=dict(
        RESNET, conv_cfg=dict(CONV, norm_cfg=dict(type='GN', num_groups=1))),
    stock=dict(
        type='mmpretrain.ResNet', depth=18, base_channels=8, conv_cfg=CONV),
    detector=DETECTOR,
    segmentor=SEGMENTOR,
)


def build(cfg):
    """A model from its config, in eval mode, no parameter at its start."""
    return perturb(MODELS.build(deepcopy(cfg)))


def perturb(model):
    """Like ``randomize``, but activations stay of one size."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith(('filter', 'spatial', 'bias')):
                parameter.copy_(torch.randn_like(parameter) / 5)
        for name, buffer in model.named_buffers():
            if name.endswith('running_mean'):
                buffer.normal_(std=0.2)
            elif name.endswith('running_var'):
                buffer.uniform_(0.5, 1.5)
    model.eval()  # which of a backbone of mmpretrain returns None
    return model


def answers(model, x):
    """All that a model computes, as one vector."""
    with torch.no_grad():
        out = model(x)

    def flat(value):
        if torch.is_tensor(value):
            return [value.flatten()]
        return [item for part in value for item in flat(part)]

    return torch.cat(flat(out))


def error(value, reference):
    """Relative to the reference; both have to be finite."""
    assert torch.isfinite(value).all() and reference.abs().max() > 1e-3
    return float((value - reference).norm() / reference.norm())


LIMITS = {torch.float32: 1e-5, torch.float64: 1e-12}


@pytest.mark.parametrize('dtype', LIMITS)
@pytest.mark.parametrize('name', MODEL_CFGS)
def test_the_deployed_and_the_fused_model_answer_the_same(name, dtype):
    model = build(MODEL_CFGS[name]).to(dtype)
    assert children_of(model)
    x = torch.randn(2, 3, 64, 64, dtype=dtype)
    before = answers(model, x)
    assert switch_to_deploy(model) is model
    assert not children_of(model)
    assert {conv.role for conv in kernel_dna(model).values()} == {'plain'}
    assert error(answers(model, x), before) <= LIMITS[dtype]
    norms = sum(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    fuse_conv_bn(model)
    assert not any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
    assert norms > 5
    assert error(answers(model, x), before) <= LIMITS[dtype]


@pytest.mark.parametrize('modulation', [(), ('filter', ), ('spatial', ),
                                        ('channel', ),
                                        ('filter', 'spatial', 'channel')])
@pytest.mark.parametrize('norm_cfg', [None] + [
    dict(type='BN', eps=0.1),
    dict(type='SyncBN'),
    dict(type='GN', num_groups=1)
])
@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('bias', [True, False])
def test_every_option_deploys(modulation, norm_cfg, share, bias):
    options = dict(
        modulation=modulation, norm_cfg=norm_cfg, share=share, bias=bias)
    module = randomize(make_kin(3, **options).double()).eval()
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    before = answers(module, x)
    switch_to_deploy(module)
    assert error(answers(module, x), before) <= 1e-12
    # What is left is what deploy=True builds.
    other = make_kin(3, deploy=True, **options).double().eval()
    other.load_state_dict(module.state_dict(), strict=True)
    assert torch.equal(answers(other, x), answers(module, x))
    kept = {name for name in module.state_dict() if 'adapter' in name}
    assert not any('filter' in name or 'spatial' in name for name in kept)
    assert bool(kept) == ('channel' in modulation)
    folded = norm_cfg is None or norm_cfg['type'] != 'GN'
    assert any('norm' in name for name in kept) == ('channel' in modulation
                                                    and not folded)


def test_a_second_switch_and_a_model_without_children_change_nothing():
    module = switch_to_deploy(randomize(make_kin(3))).eval()
    state = deepcopy(module.state_dict())
    switch_to_deploy(module)
    assert list(module.state_dict()) == list(state)
    assert all(
        torch.equal(module.state_dict()[key], state[key]) for key in state)
    plain = nn.Sequential(nn.Conv2d(3, 3, 3))
    assert switch_to_deploy(plain) is plain


def test_a_frozen_stage_stays_frozen():
    module = make_kin(2)
    module.requires_grad_(False)
    switch_to_deploy(module)
    assert not any(p.requires_grad for p in module.parameters())


def test_a_child_whose_parent_is_outside_is_refused():
    module = make_kin(2)
    with pytest.raises(ValueError, match='outside of that module'):
        switch_to_deploy(module[0][0])
    assert module[0][0].role == 'child'


class Pairs(nn.Module):
    """A child and its parent, each with a batch norm of its own."""

    def __init__(self, bias=False, **options):
        super().__init__()
        self.stage = nn.Sequential(*[
            ConvModule(
                8,
                8,
                3,
                padding=1,
                bias=bias,
                norm_cfg=dict(type='BN'),
                act_cfg=None,
                conv_cfg=dict(CONV, **options)) for _ in range(2)
        ])
        link_kernels(self)

    def forward(self, x):
        return self.stage(x)


def pairs(**options):
    """The pair, and what it answers to an input."""
    module = randomize(Pairs(**options).double()).eval()
    x = torch.randn(2, 8, 6, 6, dtype=torch.float64)
    return module, x, answers(module, x)


def test_no_child_is_fused_before_deploying():
    module, x, before = pairs()
    with pytest.raises(AttributeError, match='switch_to_deploy'):
        fuse_conv_bn(module)
    assert torch.equal(answers(module, x), before)


def fuse_like_torch(conv, norm):
    return fuse_conv_bn_eval(conv, norm)


def fuse_by_setting(conv, norm):
    fused = fuse_conv_bn_eval(plain_twin(conv), norm)
    conv.weight, conv.bias = fused.weight, fused.bias
    return conv


def fuse_by_setting_the_bias_first(conv, norm):
    fused = fuse_conv_bn_eval(plain_twin(conv), norm)
    conv.bias, conv.weight = fused.bias, fused.weight
    return conv


def fuse_by_registering(conv, norm):
    fused = fuse_conv_bn_eval(plain_twin(conv), norm)
    conv.register_parameter('weight', fused.weight)
    conv.register_parameter('bias', fused.bias)
    return conv


def plain_twin(conv):
    """An nn.Conv2d of the same weights."""
    twin = nn.Conv2d(
        8, 8, 3, padding=1, bias=conv.bias is not None, dtype=torch.float64)
    twin.load_state_dict(conv.state_dict())
    return twin.eval()


FUSERS = [
    _fuse_conv_bn, fuse_like_torch, fuse_by_setting,
    fuse_by_setting_the_bias_first, fuse_by_registering
]


@pytest.mark.parametrize('bias', [True, False])
@pytest.mark.parametrize('fuse', FUSERS)
def test_no_parent_is_fused_before_deploying(fuse, bias):
    module, x, before = pairs(bias=bias)
    parent, norm = module.stage[1].conv, module.stage[1].bn
    state = set(module.state_dict())
    with pytest.raises(RuntimeError, match='switch_to_deploy'):
        fuse(parent, norm)
    assert set(module.state_dict()) == state
    assert torch.equal(answers(module, x), before)
    switch_to_deploy(module)
    module.stage[1].conv = fuse(parent, norm)
    module.stage[1].bn = nn.Identity()
    assert error(answers(module, x), before) <= 1e-12


def test_other_weights_for_a_parent_are_no_folding():
    module, x, _ = pairs(bias=True)
    other = pairs(bias=True)[0]
    parent, wanted = module.stage[1].conv, other.stage[1].conv
    parent.weight = nn.Parameter(wanted.weight.detach().clone())
    module.eval()
    parent.bias = nn.Parameter(wanted.bias.detach().clone())
    module.eval()
    module.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(answers(module, x), answers(other, x))


def test_what_is_deleted_and_put_back_is_no_folding():
    # FSDP does so with every parameter.
    module, x, before = pairs(bias=True)
    parent = module.stage[1].conv
    for name in ('weight', 'bias'):
        value = getattr(parent, name)
        delattr(parent, name)
        setattr(parent, name, nn.Parameter(value.detach().clone()))
    assert torch.equal(answers(module, x), before)


def test_a_parent_without_a_bias_gets_none():
    parent = pairs()[0].stage[1].conv
    with pytest.raises(RuntimeError, match='switch_to_deploy'):
        parent.bias = nn.Parameter(torch.zeros(8))
    assert parent.bias is None


@pytest.mark.parametrize('bias', [True, False])
def test_a_child_of_itself_is_fused_exactly(bias):
    module, x, before = pairs(share=False)
    for unit in module.stage if bias else ():
        unit.conv.bias = nn.Parameter(torch.randn(8).double())
    before = answers(module, x)
    fuse_conv_bn(module)
    assert error(answers(module, x), before) <= 1e-12
    switch_to_deploy(module)
    assert error(answers(module, x), before) <= 1e-12


def efficient(module, how):
    if how == 'mmcv':
        for unit in module.stage:
            unit.turn_on_efficient_conv_bn_eval()
    else:
        units = [nn.Sequential(u.conv, u.bn) for u in module.stage]
        module.stage = nn.Sequential(*units)
        turn_on_efficient_conv_bn_eval(module, ['stage'])
    return module


@pytest.mark.parametrize('how', ['mmcv', 'mmengine'])
@pytest.mark.parametrize('form', ['linked', 'share=False', 'deployed'])
def test_efficient_conv_bn_eval(how, form):
    module, x, before = pairs(share=form != 'share=False')
    if form == 'deployed':
        switch_to_deploy(module)
    stock = deepcopy(module)
    efficient(module, how)
    if form == 'linked':
        with pytest.raises(AttributeError, match='switch_to_deploy'):
            module(x)
        with pytest.raises(AttributeError, match='switch_to_deploy'):
            module.stage(x)
        return
    assert error(answers(module, x), before) <= 1e-12
    # With gradients as well: it is made for tuning.
    for model in (module, stock):
        model(x).square().sum().backward()
    for ours, theirs in zip(module.parameters(), stock.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


@pytest.mark.parametrize('how', ['mmcv', 'mmengine'])
@pytest.mark.parametrize('form', ['share=False', 'deployed'])
def test_efficient_conv_bn_eval_in_train_mode(how, form):
    module, x, _ = pairs(share=form != 'share=False')
    if form == 'deployed':
        switch_to_deploy(module)
    expected = deepcopy(module).train()(x).flatten()
    efficient(module, how).train()
    assert error(module(x).detach().flatten(), expected.detach()) <= 1e-12


def test_efficient_conv_bn_eval_of_a_parent_alone():
    module, x, _ = pairs()
    unit = module.stage[1]
    before = answers(unit, x)
    unit.turn_on_efficient_conv_bn_eval()
    assert error(answers(unit, x), before) <= 1e-12


def test_efficient_conv_bn_eval_of_a_whole_backbone():
    model = switch_to_deploy(
        build(dict(RESNET, type='mmpretrain.KernelDNAResNet')).double())
    x = torch.randn(1, 3, 32, 32).double()
    before = answers(model, x)
    whole = nn.ModuleDict(dict(backbone=model))
    turn_on_efficient_conv_bn_eval(whole, 'backbone')
    calls = []
    for name, module in model.named_modules():
        if isinstance(module, nn.BatchNorm2d):
            module.register_forward_hook(lambda *_: calls.append(1))
    assert error(answers(model, x), before) <= 1e-12
    assert not calls


def test_old_spectral_norm_is_refused_and_changes_nothing():
    module = randomize(make_kin(2)).eval()
    x = torch.randn(1, 8, 6, 6)
    before = answers(module, x)
    state = set(module.state_dict())
    for conv in kernel_dna(module).values():
        with pytest.raises((RuntimeError, KeyError), match='switch_to_deploy'):
            old_spectral_norm(conv)
    assert set(module.state_dict()) == state
    assert torch.equal(answers(module, x), before)
    own = make_kin(2, share=False)[0][0]
    with pytest.raises(RuntimeError, match='switch_to_deploy'):
        old_spectral_norm(own)
    assert isinstance(own.weight, nn.Parameter)


@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('number', [0, 1])
def test_old_weight_norm_is_refused_and_changes_nothing(share, number):
    module = randomize(make_kin(2, share=share)).eval()
    x = torch.randn(1, 8, 6, 6)
    before = answers(module, x)
    with pytest.raises((AttributeError, RuntimeError),
                       match='switch_to_deploy'):
        old_weight_norm(module[0][number])
    assert torch.equal(answers(module, x), before)
    switch_to_deploy(module)
    old_weight_norm(module[0][number])
    assert error(answers(module, x), before) <= 1e-5


@pytest.mark.parametrize('number', [0, 1])
def test_pruning_is_refused_and_changes_nothing(number):
    module = randomize(make_kin(2)).eval()
    x = torch.randn(1, 8, 6, 6)
    before = answers(module, x)
    with pytest.raises((AttributeError, RuntimeError),
                       match='switch_to_deploy'):
        prune.l1_unstructured(module[0][number], 'weight', 0.5)
    assert torch.equal(answers(module, x), before)


def test_a_pair_sharded_by_fsdp_follows_an_optimizer(tmp_path):
    fsdp = pytest.importorskip('torch.distributed.fsdp')
    if not hasattr(fsdp, 'fully_shard'):
        pytest.skip('this torch has no fully_shard')
    from torch.distributed.device_mesh import init_device_mesh
    torch.distributed.init_process_group(
        'gloo', init_method=f'file://{tmp_path}/rank', rank=0, world_size=1)
    try:
        module = randomize(make_kin(2)).eval()
        twin = deepcopy(module)
        fsdp.fully_shard(module, mesh=init_device_mesh('cpu', (1, )))
        x = torch.randn(2, 8, 6, 6)
        for model in (module, twin):
            optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
            for _ in range(2):
                answers(model, x)
                model(x).square().mean().backward()
                optimizer.step()
        assert error(answers(module, x), answers(twin, x)) <= 1e-5
    finally:
        torch.distributed.destroy_process_group()


def test_spectral_norm_of_a_child_is_refused():
    module = randomize(make_kin(2)).eval()
    x = torch.randn(1, 8, 6, 6)
    before = answers(module, x)
    with pytest.raises(ValueError, match='switch_to_deploy'):
        parametrizations.spectral_norm(module[0][0])
    assert torch.equal(answers(module, x), before)


@pytest.mark.parametrize('share', [True, False])
def test_spectral_norm_stays_as_it_is_on_deploying(share):
    module = randomize(make_kin(2, share=share).double())
    x = torch.randn(1, 8, 6, 6).double()
    parametrizations.spectral_norm(module[0][1])
    before = answers(module.eval(), x)
    switch_to_deploy(module.train())
    assert error(answers(module.eval(), x), before) <= 1e-12


@pytest.mark.parametrize('share', [True, False])
def test_spectral_norm_of_a_parent_reaches_its_children(share):
    module = randomize(make_kin(2, share=share).double()).eval()
    x = torch.randn(1, 8, 6, 6).double()
    parent = module[0][1]
    parametrizations.spectral_norm(parent)
    module.eval()
    normed = deepcopy(module)
    with torch.no_grad():
        weight = parent.weight.clone()
        assert float(torch.linalg.matrix_norm(weight.flatten(1),
                                              2)) == pytest.approx(
                                                  1, rel=0.2)
        parametrized = answers(module, x), answers(module, x)
        # By hand: the normed kernel as that of an ordinary parent.
        by_hand = make_kin(2, share=share).double().eval()
        state = {
            key: value
            for key, value in module.state_dict().items()
            if 'parametrizations' not in key
        }
        by_hand.load_state_dict(dict(state, **{'0.1.weight': weight}))
    for out in parametrized:
        assert error(out, answers(by_hand, x)) <= 1e-12
    # Not kept either: the parent's own parameter may change.
    with torch.no_grad():
        parent.parametrizations.weight.original.normal_()
    if share:
        assert error(answers(module, x), parametrized[0]) > 0.1
    switch_to_deploy(normed)
    assert error(answers(normed, x), parametrized[0]) <= 1e-12


def test_spectral_norm_at_build_leaves_convs_plain():

    def make(conv_cfg):
        torch.manual_seed(3)
        module = nn.Sequential(*[
            ConvModule(
                8, 8, 3, padding=1, with_spectral_norm=True, conv_cfg=conv_cfg)
            for _ in range(2)
        ])
        link_kernels(module)
        return module

    module, stock = make(CONV), make(None)
    assert not children_of(module)
    x = torch.randn(1, 8, 6, 6)
    for mode in (True, True, False):
        assert torch.equal(module.train(mode)(x), stock.train(mode)(x))
    assert torch.equal(switch_to_deploy(module)(x), stock(x))


def test_a_parents_weight_may_be_replaced():
    module = randomize(make_kin(2)).eval()
    x = torch.randn(1, 8, 6, 6)
    other = randomize(make_kin(2)).eval()
    module.load_state_dict(other.state_dict(), assign=True)
    assert torch.equal(answers(module, x), answers(other, x))
    module[0][1].weight = nn.Parameter(2 * module[0][1].weight)
    with torch.no_grad():
        other[0][1].weight.mul_(2)
    assert torch.equal(answers(module, x), answers(other, x))


@pytest.mark.parametrize('name', MODEL_CFGS)
def test_the_deploy_config_builds_what_the_state_fits(name):
    model = build(MODEL_CFGS[name])
    cfg = Config(dict(model=MODEL_CFGS[name]))
    deployed_cfg = deploy_config(cfg)
    assert cfg.model == MODEL_CFGS[name]
    deployed = MODELS.build(deployed_cfg.model)
    deployed.eval()
    # No parents either, which would not be fused.
    assert {conv.role for conv in kernel_dna(deployed).values()} == {'plain'}
    x = torch.randn(1, 3, 64, 64)
    switch_to_deploy(model)
    deployed.load_state_dict(model.state_dict(), strict=True)
    assert torch.equal(answers(deployed, x), answers(model, x))


@pytest.mark.parametrize('name', MODEL_CFGS)
def test_the_plain_config_builds_the_network_without_sharing(name):
    model = build(MODEL_CFGS[name])
    cfg = Config(dict(model=MODEL_CFGS[name]))
    plain = MODELS.build(plain_config(cfg).model)
    assert cfg.model == MODEL_CFGS[name]
    assert not kernel_dna(plain)
    numbers = [
        sum(p.numel() for p in module.parameters())
        for module in (plain, model)
    ]
    assert numbers[0] == numbers[1] + sharing_table(model).saved_parameters
    # In the places of the others.
    convs = [[(name, conv.stride, conv.groups)
              for name, conv in module.named_modules()
              if isinstance(conv, nn.Conv2d)] for module in (plain, model)]
    assert convs[0] == convs[1]


def test_the_plain_config_of_a_layer():
    layer = dict(
        type='KernelDNA',
        in_channels=4,
        out_channels=8,
        kernel_size=3,
        bias=False,
        rd_ratio=0.5)
    plain = plain_config(Config(dict(model=[layer]))).model
    conv = MODELS.build(plain[0])
    assert type(conv) is nn.Conv2d
    assert conv.weight.shape == (8, 4, 3, 3) and conv.bias is None


@pytest.mark.parametrize('form_config', [deploy_config, plain_config])
def test_other_forms_have_no_hook_for_training(form_config):
    cfg = Config(
        dict(
            model=dict(RESNET, conv_cfg=dict(CONV, keep_own_kernel=True)),
            custom_hooks=[
                dict(type='KernelSharingHook', end=3),
                dict(type='mmkdna.ReconstructionHook'),
                dict(type='EMAHook')
            ]))
    other = form_config(cfg)
    assert other.custom_hooks == [dict(type='EMAHook')]
    assert len(cfg.custom_hooks) == 3
    MODELS.build(other.model)


CONFIG = '''
custom_imports = dict(imports=['mmkdna'])
default_scope = 'mmpretrain'
model = dict(
    type='ImageClassifier',
    backbone=dict(
        type='KernelDNAResNet', depth=18, base_channels=8, stem_channels=8),
    neck=dict(type='GlobalAveragePooling'),
    head=dict(type='LinearClsHead', num_classes=3, in_channels=64))
'''


@pytest.fixture
def trained(tmp_path):
    """A folder with a config and its checkpoint."""
    (tmp_path / 'tiny.py').write_text(CONFIG)
    model = perturb(init_model(str(tmp_path / 'tiny.py')))
    torch.save(
        dict(
            meta=dict(dataset_meta=dict(classes=('a', 'b', 'c'))),
            state_dict=model.state_dict(),
            optimizer=dict(state={})), tmp_path / 'tiny.pth')
    return tmp_path


@pytest.fixture
def tool(monkeypatch):
    """The tool in this process."""

    def run(folder, *args):
        monkeypatch.chdir(folder)
        monkeypatch.setattr('sys.argv', ['switch_to_deploy', *args])
        load_tool(TOOL).main()

    return run


def test_the_tool_writes_a_checkpoint_and_its_config(trained):
    before = init_model(str(trained / 'tiny.py'), str(trained / 'tiny.pth'))
    run_tool(TOOL, 'tiny.py', 'tiny.pth', 'out.pth', cwd=trained)
    assert {p.name
            for p in trained.iterdir()
            } == {'tiny.py', 'tiny.pth', 'out.py', 'out.pth'}
    after = init_model(str(trained / 'out.py'), str(trained / 'out.pth'))
    assert children_of(before) and not children_of(after)
    written = torch.load(trained / 'out.pth', weights_only=True)
    assert set(written) == {'meta', 'state_dict'}
    assert written['meta']['dataset_meta'] == dict(classes=('a', 'b', 'c'))
    assert 'deploy=True' in written['meta']['cfg']
    x = torch.randn(2, 3, 32, 32)
    assert error(answers(after, x), answers(before, x)) <= 1e-5


def test_the_tool_keeps_the_sharing(trained):
    """The file is as small as the weights that were trained."""
    run_tool(
        TOOL, 'tiny.py', 'tiny.pth', 'out.pth', '--keep-sharing', cwd=trained)
    run_tool(TOOL, 'tiny.py', 'tiny.pth', 'full.pth', cwd=trained)
    assert (trained / 'out.py').read_text() == (trained /
                                                'full.py').read_text()
    before = torch.load(trained / 'tiny.pth')['state_dict']
    written = torch.load(trained / 'out.pth', weights_only=True)
    assert set(written) == {'meta', 'state_dict'}
    assert written['state_dict'].keys() == before.keys()
    sizes = [(trained / f'{name}.pth').stat().st_size
             for name in ('tiny', 'out', 'full')]
    # With a config, without an optimizer.
    assert abs(sizes[1] - sizes[0]) < 10000
    assert sizes[2] > 1.4 * sizes[1]
    models = [
        init_model(str(trained / 'out.py'), str(trained / f'{name}.pth'))
        for name in ('out', 'full')
    ]
    weights, expected = (model.state_dict() for model in models)
    assert weights.keys() == expected.keys()
    assert all(torch.equal(weights[key], expected[key]) for key in expected)


LAZY = '''
from mmpretrain.models import (GlobalAveragePooling, ImageClassifier,
                               LinearClsHead, ResNet)

from mmkdna import KernelDNAConv2d, ReconstructionHook
from mmkdna.backbones.mmpretrain import KernelDNAResNet

default_scope = 'mmpretrain'
custom_hooks = [dict(type=ReconstructionHook)]
model = dict(
    type=ImageClassifier,
    backbone=dict({}, depth=18, base_channels=8, stem_channels=8),
    neck=dict(type=GlobalAveragePooling),
    head=dict(type=LinearClsHead, num_classes=3, in_channels=64))
'''
STOCK = CONFIG.replace('\'KernelDNAResNet\',',
                       '\'ResNet\', conv_cfg=dict({}),')

# Each makes the host's network, or ours, with children.
NAMED = [
    STOCK.format('type=\'KernelDNA\''),
    STOCK.format('type=\'mmkdna.KernelDNA\''),
    STOCK.format('type=\'mmkdna.KernelDNAConv2d\''),
    STOCK.format('type=\'mmkdna.conv.KernelDNAConv2d\''),
    LAZY.format('type=ResNet, conv_cfg=dict(type=KernelDNAConv2d)'),
    LAZY.format('type=KernelDNAResNet'),
]


@pytest.mark.parametrize('text', NAMED)
def test_however_a_class_is_named(text, tmp_path, tool):
    (tmp_path / 'tiny.py').write_text(text)
    before = perturb(init_model(str(tmp_path / 'tiny.py')))
    assert children_of(before)
    torch.save(before.state_dict(), tmp_path / 'tiny.pth')
    tool(tmp_path, 'tiny.py', 'tiny.pth', 'out.pth')
    after = init_model(str(tmp_path / 'out.py'), str(tmp_path / 'out.pth'))
    # In a process that has not imported mmkdna before.
    assert 'mmkdna' in Config.fromfile(tmp_path /
                                       'out.py').custom_imports.imports
    assert 'Hook' not in (tmp_path / 'out.py').read_text()
    assert {conv.role for conv in kernel_dna(after).values()} == {'plain'}
    x = torch.randn(2, 3, 32, 32)
    assert error(answers(after, x), answers(before, x)) <= 1e-5


@pytest.mark.parametrize('text', NAMED)
def test_plain_however_a_class_is_named(text, tmp_path):
    (tmp_path / 'tiny.py').write_text(text)
    cfg = Config.fromfile(tmp_path / 'tiny.py')
    plain = plain_config(cfg)
    assert children_of(init_model(cfg)) and not kernel_dna(init_model(plain))
    # As text too, in a process that has not imported mmkdna before.
    plain = Config.fromstring(plain.pretty_text, '.py')
    assert 'mmkdna' in plain.custom_imports.imports
    assert not kernel_dna(init_model(plain))


def test_a_class_in_the_config_itself():
    cfg = Config(dict(model=dict(RESNET, conv_cfg=dict(type=KernelDNAConv2d))))
    deployed = deploy_config(cfg)
    assert deployed.model.conv_cfg == dict(
        CONV, deploy=True, keep_own_kernel=False)
    assert not kernel_dna(MODELS.build(plain_config(cfg).model))


@pytest.fixture
def refused(trained, tool):
    """Run the tool, which ends with a message and changes nothing."""

    def content():
        return {
            path: path.is_file() and path.read_bytes()
            for path in trained.rglob('*')
        }

    def run(*args):
        before = content()
        with pytest.raises(SystemExit) as stopped:
            tool(trained, *args)
        assert content() == before
        return str(stopped.value.code)

    return run


def test_a_checkpoint_of_another_depth_is_refused(trained, refused):
    text = CONFIG.replace('depth=18', 'depth=34')
    (trained / 'deeper.py').write_text(text)
    message = refused('deeper.py', 'tiny.pth', 'out.pth')
    assert 'tiny.pth' in message and 'deeper.py' in message
    assert 'layer1.2.conv1.weight' in message


def test_a_truncated_checkpoint_is_refused(trained, refused):
    whole = (trained / 'tiny.pth').read_bytes()
    (trained / 'tiny.pth').write_bytes(whole[:len(whole) // 2])
    assert 'truncated' in refused('tiny.py', 'tiny.pth', 'out.pth')


def test_a_missing_checkpoint_is_refused(refused):
    assert 'no such file' in refused('tiny.py', 'none.pth', 'out.pth')


def test_what_is_written_ends_in_pth(refused):
    assert 'ends in .pth' in refused('tiny.py', 'tiny.pth', 'out.onnx')


def test_the_config_is_not_written_over(refused):
    assert 'would replace tiny.py' in refused('tiny.py', 'tiny.pth',
                                              './tiny.pth')


def test_a_missing_folder_is_refused(refused):
    assert 'no/such' in refused('tiny.py', 'tiny.pth', 'no/such/out.pth')


@pytest.mark.parametrize('link', [False, True])
def test_the_checkpoint_is_not_written_over(link, trained, refused):
    name = 'trained.pth'
    if link:
        (trained / name).symlink_to('tiny.pth')
    else:
        (trained / 'tiny.pth').rename(trained / name)
    checkpoint = 'tiny.pth' if link else name
    message = refused('tiny.py', checkpoint, name)
    assert f'would replace {checkpoint}' in message


@pytest.mark.parametrize('name', ['out.pth', 'out.py'])
def test_a_folder_is_not_written_over(name, trained, refused):
    (trained / name).mkdir()
    message = refused('tiny.py', 'tiny.pth', 'out.pth')
    assert f'{name} is given to write to, but it is a folder' in message


def test_both_files_or_none(monkeypatch, refused):

    def save(checkpoint, file):
        file.write(b'half of it')
        raise OSError('No space left on device')

    monkeypatch.setattr(torch, 'save', save)
    message = refused('tiny.py', 'tiny.pth', 'out.pth')
    assert 'out.pth' in message and 'No space left' in message


def test_a_missing_config_is_refused(refused):
    assert 'none.py is given as config' in refused('none.py', 'tiny.pth',
                                                   'out.pth')


def test_a_config_that_cannot_be_deployed_is_refused(trained, refused,
                                                     monkeypatch):
    monkeypatch.syspath_prepend(trained)
    (trained / 'other_conv.py').write_text('''
from mmengine.registry import MODELS
from mmkdna import KernelDNAConv2d


@MODELS.register_module(force=True)
class OtherConv(KernelDNAConv2d):
    pass
''')
    text = STOCK.format('type=\'OtherConv\'')
    (trained / 'other.py').write_text(
        text.replace('[\'mmkdna\']', '[\'other_conv\']'))
    model = init_model(str(trained / 'other.py'))
    torch.save(model.state_dict(), trained / 'other.pth')
    message = refused('other.py', 'other.pth', 'out.pth')
    assert 'other.py is given' in message
    assert 'Missing key' in message and 'Nothing is written' in message


def test_sharing_that_is_not_there_is_not_kept(trained, refused):
    for name, conv_cfg, said in (
        ('plain', 'None', 'no sharing to keep'),
        ('own', 'dict(type=\'KernelDNA\', share=False)', 'no sharing to keep'),
        ('gradual', 'dict(type=\'KernelDNA\', keep_own_kernel=True)',
         'backbone.layer1.0.conv1: train on until')):
        text = STOCK.replace('conv_cfg=dict({})', f'conv_cfg={conv_cfg}')
        (trained / f'{name}.py').write_text(text)
        model = init_model(str(trained / f'{name}.py'))
        torch.save(model.state_dict(), trained / f'{name}.pth')
        message = refused(f'{name}.py', f'{name}.pth', 'out.pth',
                          '--keep-sharing')
        assert said in message and 'Nothing is written' in message


def deployed(**options):
    module = randomize(make_kin(2, **options))
    return switch_to_deploy(module)


def messages_of_training(module):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter('always')
        for _ in range(2):
            module(torch.randn(2, 8, 6, 6)).sum().backward()
    return [str(w.message) for w in caught]


@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('modulation', [('filter', ), ('channel', )])
def test_training_on_after_deploying_is_warned_of(share, modulation):
    messages = messages_of_training(
        deployed(share=share, modulation=modulation))
    # Once for each child, however long it is trained.
    assert len(messages) == (1 if share else 2)
    assert all('make the optimizer anew' in message for message in messages)


def test_no_warning_where_no_optimizer_was_made_before():
    assert messages_of_training(make_kin(2, deploy=True)) == []
    assert messages_of_training(make_kin(2)) == []
    module = deployed().eval()
    assert messages_of_training(module) == []


def test_the_conv_says_nothing_of_deploying_when_it_is_plain():
    conv = KernelDNAConv2d(4, 4, 3)
    assert str(conv) == repr(conv)


@torch.no_grad()
@pytest.mark.parametrize('groups', [1, 2])
def test_a_constant_gate_is_folded(groups):
    torch.manual_seed(0)
    module = make_kin(4, groups=groups, grouped=True).double().eval()
    children = children_of(module)
    for child in children.values():
        nn.init.zeros_(child.adapter.gate.fc2.weight)
        nn.init.normal_(child.adapter.gate.fc2.bias)
    x = torch.randn(2, 8, 6, 6).double()
    expected = module(x)
    switch_to_deploy(module)
    gates = {
        name: child.adapter.gate.fc2.bias.sigmoid()
        for name, child in children.items()
    }
    fold_constant_gates(module, gates)
    assert not any('adapter' in name for name, _ in module.named_modules())
    torch.testing.assert_close(module(x), expected, rtol=1e-12, atol=1e-12)


def test_only_gates_of_deployed_children_can_be_folded():
    module = make_kin(4)
    with pytest.raises(
            ValueError, match='0.0 is given, but it is no deployed'):
        fold_constant_gates(module, {'0.0': torch.ones(8)})
    switch_to_deploy(module)
    kernel = module[0][0].weight.clone()
    with pytest.raises(
            ValueError, match='0.1 is given, but it is no deployed'):
        fold_constant_gates(module, {
            '0.0': torch.ones(8) / 2,
            '0.1': torch.ones(8)
        })
    assert torch.equal(module[0][0].weight, kernel)


def test_the_config_of_folded_gates_names_the_unit():
    cfg = Config(
        dict(
            model=dict(
                type='mmdet.RetinaNet',
                backbone=dict(RESNET, conv_cfg=CONV),
                neck=[dict(type='mmdet.FPN', conv_cfg=CONV)],
                roi_head=dict(bbox_head=dict(conv_cfg=CONV)))))
    model = ungated_config(
        cfg, ['backbone.layer3.0.conv2', 'roi_head.bbox_head.convs.0']).model
    assert model.backbone.conv_cfg.ungated == ('layer3.0.conv2', )
    assert model.roi_head.bbox_head.conv_cfg.ungated == ('convs.0', )
    assert 'ungated' not in cfg.model.backbone.conv_cfg
    with pytest.raises(ValueError, match='conv_cfg of neck.0.convs.0 is not'):
        ungated_config(cfg, ['neck.0.convs.0'])
