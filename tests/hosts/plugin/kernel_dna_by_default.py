"""A pytest plugin: a host library builds KernelDNA where it would not.

For the tests of the host libraries, which are not ours and know nothing of us:
``conv_cfg=None`` and the type 'Conv2d' mean KernelDNA, and what a test builds
by its class, past the registries, is linked as what they build is. For each
test it is recorded how many convolutions became children in it.

It has its folder to itself, since a host's tests are a package ``tests`` too.
"""
import functools
import json
from importlib import import_module

import pytest
from mmengine.registry import MODELS
from torch import nn

import mmkdna
from mmkdna import KernelDNAConv2d

# Classes whose __init__ is running, the outermost first.
building = []
# The children made in the test that is running.
children = []


def pytest_addoption(parser):
    parser.addoption(
        '--host', required=True, help='the host library: mmdet, mmseg, ...')
    parser.addoption(
        '--options',
        type=json.loads,
        default={},
        help='of conv_cfg, as JSON; default: none')


def pytest_configure(config):
    options = config.getoption('--options')

    def build(*args, **kwargs):
        return KernelDNAConv2d(*args, **kwargs, **options)

    for name in ('Conv', 'Conv2d'):
        MODELS.register_module(name, module=build, force=True)
    host = config.getoption('--host')
    import_module(f'{host}.models')
    for kind in classes_of(host):
        kind.__init__ = linking(kind.__init__)
    KernelDNAConv2d.derive_from = counting(KernelDNAConv2d.derive_from)


def classes_of(host):
    """The modules of a host library that have a constructor of their own."""
    found, new = set(), [nn.Module]
    while new:
        new = [sub for kind in new for sub in kind.__subclasses__()]
        found.update(new)
    return [
        kind for kind in found
        if kind.__module__.startswith(f'{host}.') and '__init__' in vars(kind)
    ]


def linking(init):
    """Have a constructor link, unless it runs within that of another one."""

    @functools.wraps(init)
    def init_and_link(self, *args, **kwargs):
        building.append(self)
        try:
            init(self, *args, **kwargs)
        finally:
            building.pop()
        if not building:
            mmkdna.link_kernels(self)

    return init_and_link


def counting(derive_from):
    """Have every convolution that becomes a child recorded."""

    @functools.wraps(derive_from)
    def derive_and_count(self, *args, **kwargs):
        derive_from(self, *args, **kwargs)
        children.append(self)

    return derive_and_count


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_call(item):
    children.clear()
    yield
    item.user_properties.append(('children', len(children)))
    children.clear()
