"""What a model registry builds is linked, each unit within itself."""
import copy
import subprocess
import sys
import warnings
from importlib import import_module

import pytest
import torch
from mmcv.cnn import ConvModule, build_conv_layer
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.model import BaseModule
from mmengine.registry import MODELS, Registry, init_default_scope
from torch import nn

from mmkdna import MODELS as MMKDNA_MODELS
from mmkdna import KernelDNAConv2d
from mmkdna.registry import link_what_is_built
from tests.utils import INSTALLED, children_of, kernel_dna, pattern

CONV = dict(type='KernelDNA')


@pytest.fixture(autouse=True)
def registered():
    """Types of this file, in mmengine's registry only during its tests."""

    class Unit(BaseModule):
        """Two convolutions of one shape in a stage."""

        def __init__(self, number=2, conv_cfg=CONV):
            super().__init__()
            self.stage = nn.Sequential(*[
                ConvModule(4, 4, 3, padding=1, conv_cfg=conv_cfg)
                for _ in range(number)
            ])

    class Whole(BaseModule):
        """A backbone and a convolution of its own, of the same shape."""

        def __init__(self, backbone, neck=None):
            super().__init__()
            self.backbone = MODELS.build(backbone)
            if neck is not None:
                self.neck = MODELS.build(neck)
            self.extra = nn.ModuleList(
                [build_conv_layer(CONV, 4, 4, 3) for _ in range(2)])

    class Pair:
        """Something that is no module."""

        def __init__(self):
            self.value = 1

    class Assembled(nn.Module):
        """Builds its convolutions one by one through the registry."""

        def __init__(self, conv_cfg, module):
            super().__init__()
            cfg = dict(in_channels=4, out_channels=4, kernel_size=3, padding=1)
            if module:
                cfg.update(type='ConvModule', conv_cfg=conv_cfg)
            else:
                cfg.update(conv_cfg)
            self.stage = nn.Sequential(*[MODELS.build(cfg) for _ in range(2)])

    types = dict(
        KdnaUnit=Unit, KdnaWhole=Whole, KdnaPair=Pair, KdnaAssembled=Assembled)
    for name, kind in types.items():
        MODELS.register_module(name, module=kind)
    yield
    for name in types:
        MODELS.module_dict.pop(name)


UNIT = dict(type='KdnaUnit')


def host_registries():
    return [import_module(f'{host}.registry').MODELS for host in INSTALLED]


def test_every_registry_links():
    for registry in (MODELS, MMKDNA_MODELS, *host_registries()):
        assert pattern(registry.build(UNIT)) == 'S F'


def test_a_registry_made_later_links():
    later = Registry('model', parent=MODELS, scope='kdna_later')
    try:
        assert pattern(later.build(dict(UNIT, _scope_='mmengine'))) == 'S F'
        grandchild = Registry('model', parent=later, scope='kdna_last')
        assert pattern(grandchild.build(UNIT)) == 'S F'
    finally:
        MODELS.children.pop('kdna_later')


def test_a_registry_made_before_links():
    root = Registry('kdna_root', scope='kdna_root')
    child = Registry('kdna_root', parent=root, scope='kdna_child')
    child.register_module('Unit', module=MODELS.get('KdnaUnit'))
    assert pattern(child.build(dict(type='Unit'))) == '- -'
    link_what_is_built(root)
    assert pattern(child.build(dict(type='Unit'))) == 'S F'


def test_a_registry_is_wrapped_once():
    functions = [r.build_func for r in (MODELS, *host_registries())]
    link_what_is_built(MODELS)
    assert functions == [r.build_func for r in (MODELS, *host_registries())]


@pytest.mark.parametrize('name', ['KernelDNA', 'mmkdna.KernelDNA'])
@pytest.mark.parametrize('scope', ['mmengine', 'mmdet', 'mmseg', 'mmpretrain'])
def test_the_conv_type_is_known_in_every_scope(name, scope):
    init_default_scope(scope)
    conv = build_conv_layer(dict(type=name), 4, 4, 3)
    assert type(conv) is KernelDNAConv2d


def test_a_list_of_configs_gives_units_of_their_own():
    necks = MODELS.build([UNIT, dict(UNIT, number=1), UNIT])
    assert isinstance(necks, nn.Sequential)
    assert pattern(necks) == 'S F - S F'
    for name, child in children_of(necks).items():
        assert child.parent in set(necks[int(name[0])].modules())
        assert child.parent_name == 'stage.1.conv'


def test_the_innermost_built_module_is_the_unit():
    model = MODELS.build(
        dict(
            type='KdnaWhole',
            backbone=dict(UNIT, number=1),
            neck=dict(UNIT, number=3)))
    convs = kernel_dna(model)
    # One convolution of the same shape in each: none crosses.
    assert {
        n: c.role
        for n, c in convs.items()
    } == {
        'backbone.stage.0.conv': 'plain',
        'neck.stage.0.conv': 'child',
        'neck.stage.1.conv': 'child',
        'neck.stage.2.conv': 'parent',
        'extra.0': 'child',
        'extra.1': 'parent',
    }
    assert convs['neck.stage.0.conv'].parent is convs['neck.stage.2.conv']


@pytest.mark.parametrize('module', [True, False])
def test_a_single_convolution_waits_for_its_module(module):
    unit = MODELS.build(
        dict(type='KdnaAssembled', conv_cfg=CONV, module=module))
    assert pattern(unit) == 'S F'
    assert all(conv.linked for conv in kernel_dna(unit).values())


def test_a_single_convolution_that_nobody_links_says_so():
    conv = MODELS.build(
        dict(CONV, in_channels=4, out_channels=4, kernel_size=3))
    assert not conv.linked
    with pytest.warns(UserWarning, match='nothing linked them'):
        conv(torch.randn(1, 4, 6, 6))


def test_two_models_never_share():
    cfg = dict(type='KdnaWhole', backbone=UNIT)
    models = [MODELS.build(copy.deepcopy(cfg)) for _ in range(2)]
    for model in models:
        modules = set(model.modules())
        assert len(children_of(model)) == 2
        assert all(c.parent in modules for c in children_of(model).values())
    lonely = [MODELS.build(dict(UNIT, number=1)) for _ in range(2)]
    assert [pattern(model) for model in lonely] == ['-', '-']


def test_what_is_built_runs_without_a_warning():
    for number in (1, 2):
        model = MODELS.build(dict(UNIT, number=number))
        with warnings.catch_warnings():
            warnings.simplefilter('error')
            model.stage(torch.randn(2, 4, 6, 6))


def test_what_holds_none_of_our_convs_is_left_alone():
    assert MODELS.build(dict(type='KdnaPair')).value == 1
    stock = MODELS.build(dict(UNIT, conv_cfg=None))
    assert {type(m.conv) for m in stock.stage} == {nn.Conv2d}


def test_default_arguments_still_reach_what_is_built():
    unit = MODELS.build(UNIT, default_args=dict(number=3))
    assert pattern(unit) == 'S S F'


def test_an_error_comes_while_building():
    cfg = dict(UNIT, conv_cfg=dict(CONV, name_pattern='layer9'))
    with pytest.raises(ValueError, match="name_pattern='layer9' is given"):
        MODELS.build(cfg)
    cfg = dict(UNIT, conv_cfg=dict(CONV, rd_ratio=0.1))
    with pytest.raises(ValueError, match='rd_ratio=0.1 is given'):
        MODELS.build(cfg)
    cfg = dict(UNIT, conv_cfg=dict(CONV, children=1))
    with pytest.raises(TypeError, match='children is given'):
        MODELS.build(cfg)


@pytest.mark.parametrize('cfg', ['KdnaUnit', None, 3])
def test_what_is_no_config_gets_the_registrys_own_error(cfg):
    with pytest.raises(TypeError, match='cfg should be a dict'):
        MODELS.build(cfg)


def test_a_config_object_is_a_config():
    assert pattern(MODELS.build(Config(dict(UNIT)))) == 'S F'


def test_with_its_scope_the_conv_type_needs_no_import():
    code = ('import sys\n'
            'from mmcv.cnn import build_conv_layer\n'
            'assert "mmkdna" not in sys.modules\n'
            'conv = build_conv_layer(dict(type="mmkdna.KernelDNA"), 4, 4, 3)\n'
            'assert type(conv).__name__ == "KernelDNAConv2d"')
    done = subprocess.run([sys.executable, '-c', code],
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize('cfg, said', [
    (dict(UNIT, number=3), 'Unit: 2 of 3 convolutions'),
    (dict(type='mmdet.KernelDNAResNet', depth=18,
          base_channels=16), 'KernelDNAResNet: 6 of 14 convolutions'),
])
def test_the_log_says_once_what_was_linked(monkeypatch, cfg, said):
    lines = []
    logger = MMLogger.get_current_instance()
    monkeypatch.setattr(logger, 'handle', lambda r: lines.append(r.msg))
    model = MODELS.build(cfg)
    MODELS.build(dict(UNIT, number=1))
    line, = [line for line in lines if line.startswith('KernelDNA:')]
    saved = sum(c.parent.weight.numel() - sum(p.numel()
                                              for p in c.adapter.parameters())
                for c in children_of(model).values())
    assert f'{said} derive their kernel' in line
    assert f'saves {saved:,} parameters' in line
