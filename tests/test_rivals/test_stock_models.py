"""Stock models of each library with a rival in backbone, neck and heads."""
import copy
from importlib import import_module

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import DefaultScope

from mmkdna.rivals import CONV_TYPES
from tests.test_stock_models import CONV, MODELS, get_cfg, tensors
from tests.utils import make_images

KINDS = ('CondConv', 'DyConv', 'ODConv', 'SEConv', 'KernelWarehouse')


def replace_type(cfg, kind):
    """Have what is KernelDNA be another conv type."""
    for value in cfg.values() if isinstance(cfg, dict) else cfg:
        if isinstance(value, dict) and value.get('type') == CONV['type']:
            value['type'] = kind
        elif isinstance(value, (dict, list, tuple)):
            replace_type(value, kind)


def dynamic(model):
    """The dynamic convolutions of a model by name."""
    return {
        name: module
        for name, module in model.named_modules()
        if getattr(module, 'dynamic', False)
    }


@pytest.fixture(
    scope='module', params=['mask_rcnn', 'upernet', 'mobilenet_v2_pointwise'])
def name(request):
    pytest.importorskip(MODELS[request.param][0])
    return request.param


@pytest.fixture(scope='module', params=KINDS)
def kind(request):
    return request.param


@pytest.fixture(scope='module')
def model(name, kind):
    torch.manual_seed(0)
    host, _, children = MODELS[name]
    cfg = ConfigDict(get_cfg(name))
    replace_type(cfg, kind)
    with DefaultScope.overwrite_default_scope(host):
        model = import_module(f'{host}.registry').MODELS.build(cfg)
    model.init_weights()
    for unit in children:
        for conv in dynamic(model.get_submodule(unit)).values():
            assert type(conv) is CONV_TYPES[kind]
    assert len(dynamic(model)) > 10
    return model


def test_all_experts_are_initialized_alike(model):
    for name, conv in dynamic(model).items():
        experts = getattr(conv, 'experts', None)
        if experts is not None and experts[0].numel() > 500:
            spread = experts.detach().flatten(1).std(1)
            assert spread.max() < 1.3 * spread.min(), name


def test_one_image_trains(name, model):
    model.train()
    model.zero_grad()
    data = model.data_preprocessor(make_images(MODELS[name][0]), True)
    loss, _ = model.parse_losses(model(**data, mode='loss'))
    assert loss.isfinite()
    loss.backward()
    for name, conv in dynamic(model).items():
        for key, parameter in conv.named_parameters():
            if parameter.requires_grad:
                assert parameter.grad.isfinite().all(), f'{name}.{key}'


def test_a_copy_and_its_weights_give_the_same(name, model):
    model.eval()
    twin = copy.deepcopy(model)
    twin.load_state_dict(model.state_dict())
    data = model.data_preprocessor(make_images(MODELS[name][0]))
    with torch.no_grad():
        ours, theirs = [
            tensors(m(**data, mode='tensor')) for m in (model, twin)
        ]
    assert len(ours) == len(theirs) > 0
    assert all(torch.equal(a, b) for a, b in zip(ours, theirs))
