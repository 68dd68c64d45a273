"""The paper's networks by name: where they are found, and what they need."""
import subprocess
import sys
from importlib import import_module

import pytest
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope

from mmkdna import MODELS as MMKDNA_MODELS
from mmkdna import backbones, link_kernels, sharing_table

NAMES = tuple(backbones.BACKBONES)
# Those that every library has the class for.
COMMON = ('KernelDNAResNet', 'KernelDNAMobileNetV2')
HOSTS = backbones.HOSTS
CFG = dict(type='KernelDNAResNet', depth=18, base_channels=16)


def host_registry(host):
    return import_module(f'{host}.registry').MODELS


@pytest.mark.parametrize('host', HOSTS)
def test_one_name_over_each_hosts_own_class(host):
    for name in NAMES if host == 'mmpretrain' else COMMON:
        arguments = dict(depth=18) if name == 'KernelDNAResNet' else {}
        for registry, kind in ((host_registry(host), name),
                               (MODELS, f'{host}.{name}'), (MMKDNA_MODELS,
                                                            f'{host}.{name}')):
            model = registry.build(dict(type=kind, **arguments))
            assert type(model).__name__ == name
            base = type(model).__mro__[2]
            assert base.__name__ == name[len('KernelDNA'):]
            assert base.__module__.startswith(f'{host}.models.backbones.')


@pytest.mark.hosts(*HOSTS)
def test_the_default_scope_decides():
    for host in HOSTS:
        init_default_scope(host)
        model = MODELS.build(CFG)
        assert type(model).__module__ == f'mmkdna.backbones.{host}'


@pytest.mark.parametrize('cfg, host', [
    (dict(CFG, _scope_='mmseg'), 'mmseg'),
    (Config(dict(CFG, _scope_='mmseg')), 'mmseg'),
    (Config(CFG), 'mmdet'),
    (dict(CFG, type='mmpretrain.KernelDNAResNet',
          _scope_='mmseg'), 'mmpretrain'),
])
def test_only_the_library_of_the_config_is_imported(monkeypatch, cfg, host):
    imported = []
    monkeypatch.setattr(
        backbones, 'import_module', lambda name:
        (imported.append(name), import_module(name)))
    init_default_scope('mmdet')
    model = MODELS.build(cfg)
    assert type(model).__module__ == f'mmkdna.backbones.{host}'
    assert imported == [f'mmkdna.backbones.{host}']


@pytest.mark.parametrize('host', HOSTS)
def test_a_backbone_built_by_hand_is_linked(host):
    module = import_module(f'mmkdna.backbones.{host}')
    for backbone in (module.KernelDNAResNet(18),
                     module.KernelDNAMobileNetV2()):
        assert sharing_table(backbone).children
        assert link_kernels(backbone) == []


@pytest.mark.hosts(*HOSTS)
@pytest.mark.parametrize('name', NAMES)
@pytest.mark.parametrize('prefix, scope', [('', 'mmengine'),
                                           ('mmkdna.', 'mmkdna'),
                                           ('mmyolo.', 'mmyolo')])
def test_a_scope_without_host_library(name, prefix, scope):
    with pytest.raises(KeyError) as error:
        MODELS.build(dict(type=prefix + name))
    message = error.value.args[0]
    hosts = HOSTS if name in COMMON else ('mmpretrain', )
    assert f'{name} is asked for in the scope {scope!r}' in message
    assert f'one of {hosts}' in message
    assert f"set default_scope, or write type='{hosts[0]}.{name}'" in message


@pytest.mark.parametrize('host', ['mmdet', 'mmseg'])
def test_a_class_that_only_mmpretrain_has(host):
    cfg = dict(type='KernelDNAConvNeXt', out_indices=[0, 1, 2, 3])
    for where in (dict(), dict(_scope_=host)):
        init_default_scope('mmpretrain' if where else host)
        with pytest.raises(KeyError) as error:
            MODELS.build(dict(cfg, **where))
        message = error.value.args[0]
        assert f"asked for in the scope '{host}'" in message
        assert (
            "one of ('mmpretrain',), of which ['mmpretrain'] are "
            "installed: write type='mmpretrain.KernelDNAConvNeXt'") in message
        model = host_registry(host).build(
            dict(cfg, type='mmpretrain.KernelDNAConvNeXt', **where))
        assert type(model).__module__ == 'mmkdna.backbones.mmpretrain'
        assert sharing_table(model).children == 10


@pytest.mark.hosts('mmseg')
def test_a_host_library_that_is_not_installed(monkeypatch):
    find_spec = backbones.find_spec
    monkeypatch.setattr(
        backbones, 'find_spec', lambda name: None
        if name == 'mmdet' else find_spec(name))
    with pytest.raises(KeyError) as error:
        MODELS.build(dict(CFG, type='mmdet.KernelDNAResNet'))
    message = error.value.args[0]
    assert "of which ['mmseg', 'mmpretrain'] are installed" in message
    assert "type='mmseg.KernelDNAResNet'" in message


def run(code):
    """Run code in a fresh interpreter."""
    done = subprocess.run([sys.executable, '-c', code],
                          capture_output=True,
                          text=True)
    assert done.returncode == 0, done.stderr


def test_importing_mmkdna_imports_no_host_library():
    run('import sys, mmkdna\n'
        f'assert not set({HOSTS!r}) & set(sys.modules)')


@pytest.mark.parametrize('host', HOSTS)
def test_no_library_but_the_host_is_needed(host):
    absent = [other for other in HOSTS if other != host]
    others = NAMES[1:] if host == 'mmpretrain' else COMMON[1:]
    run('import sys\n'
        f'sys.modules.update(dict.fromkeys({absent!r}))\n'
        'import mmkdna\n'
        'from mmengine.registry import MODELS\n'
        f'for cfg in ({CFG!r}, *[dict(type=name) for name in {others!r}]):\n'
        f'    cfg["type"] = "{host}." + cfg["type"]\n'
        '    model = MODELS.build(cfg)\n'
        '    assert mmkdna.sharing_table(model).children')
