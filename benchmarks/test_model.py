"""How long building, linking and folding take."""
import copy

import pytest
from mmengine.registry import DefaultScope

from mmkdna import registry, sharing_table, switch_to_deploy
from tests.test_stock_models import load_cfg

pytest.importorskip('mmdet')
KERNEL_DNA = dict(type='KernelDNA')


def build(conv_cfg):
    """Mask R-CNN R50, in full size, wherever it takes a conv_cfg."""
    from mmdet.registry import MODELS
    cfg = load_cfg('mask_rcnn')
    for part in (cfg.backbone, cfg.neck, cfg.roi_head.mask_head):
        part.conv_cfg = copy.deepcopy(conv_cfg)
    with DefaultScope.overwrite_default_scope('mmdet'):
        return MODELS.build(cfg)


@pytest.mark.benchmark(group='building')
def test_build_without(benchmark, monkeypatch):
    monkeypatch.setattr(registry, 'link_kernels', lambda unit: [])
    benchmark(build, None)


@pytest.mark.benchmark(group='building')
def test_build_with_kernel_dna(benchmark):
    model = benchmark(build, KERNEL_DNA)
    assert sharing_table(model).children == 9 + 2 + 2


@pytest.mark.benchmark(group='linking')
def test_link(benchmark, monkeypatch):
    """All units of a model, which is built anew for each round."""
    units = []
    link_kernels = registry.link_kernels
    monkeypatch.setattr(registry, 'link_kernels', units.append)

    def set_up():
        units.clear()
        build(KERNEL_DNA)
        return (list(units), ), {}

    def link(units):
        return [link for unit in units for link in link_kernels(unit)]

    links = benchmark.pedantic(link, setup=set_up, rounds=10)
    assert links


@pytest.mark.benchmark(group='folding')
def test_fold(benchmark):
    """All children of a model, which is built anew for each round."""
    model = benchmark.pedantic(
        switch_to_deploy,
        setup=lambda: ((build(KERNEL_DNA).eval(), ), {}),
        rounds=10)
    assert sharing_table(model).children == 0
