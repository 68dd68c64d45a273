"""torch.compile finds no break on any path."""
import copy
import warnings
from contextlib import nullcontext

import pytest
import torch
from mmengine.config import Config

from mmkdna import kept_kernels, switch_to_deploy
from mmkdna.analysis.variants import FORMS, Variant
from mmkdna.launch.model import init_model
from tests.test_deploy import CONFIG, DETECTOR, SEGMENTOR, perturb
from tests.utils import compiles, make_kin

pytestmark = compiles
CONFIGS = dict(
    classifier=Config.fromstring(CONFIG, '.py'),
    detector=Config(dict(default_scope='mmdet', model=DETECTOR)),
    segmentor=Config(dict(default_scope='mmseg', model=SEGMENTOR)))
# Forms of a classifier, and the other models as they are trained; the rivals
# compile in tests/test_rivals.
CASES = [('classifier', form) for form in FORMS] + [('detector', 'trained'),
                                                    ('segmentor', 'trained')]


def run(model, x):
    """What is computed, as one vector."""
    if hasattr(model, 'bbox_head'):
        outputs = model.extract_feat(x)
    else:
        outputs = model(x, mode='tensor')
    if torch.is_tensor(outputs):
        outputs = [outputs]
    return torch.cat([out.flatten() for out in outputs])


@pytest.mark.parametrize('train', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('name, form', CASES)
def test_no_break(name, form, train):
    variant = Variant(form)
    model = variant.finish(init_model(variant.config(CONFIGS[name])))
    perturb(model).train(train)
    twin = copy.deepcopy(model)
    torch._dynamo.reset()
    compiled = torch.compile(run, fullgraph=True, backend='eager')
    x = torch.randn(2, 3, 64, 64)
    answers = []
    for function, net in ((compiled, model), (run, twin)):
        # A segmentor's head drops at random.
        torch.manual_seed(0)
        keeping = kept_kernels(net) if form == 'kept' else nullcontext()
        with torch.set_grad_enabled(train), keeping:
            answers.append(function(net, x))
    torch.testing.assert_close(*answers)
    if train:
        answers[0].square().mean().backward()
        assert all(p.grad is not None for p in model.backbone.parameters())


@pytest.mark.parametrize('train', [True, False], ids=['train', 'eval'])
@pytest.mark.parametrize('options, images, amp', [
    (dict(norm_cfg=None), 2, False),
    (dict(norm_cfg=dict(type='GN', num_groups=2)), 2, False),
    (dict(share=False), 2, False),
    (dict(modulation=('spatial', )), 2, False),
    ({}, 1, False),
    ({}, 2, True),
])
def test_no_break_with_options(options, images, amp, train):
    module = make_kin(3, 16, **options).train(train)
    torch._dynamo.reset()
    compiled = torch.compile(
        copy.deepcopy(module), fullgraph=True, backend='eager')
    x = torch.randn(images, 16, 6, 6)
    with torch.autocast('cpu', torch.bfloat16, enabled=amp):
        ours, theirs = compiled(x), module(x)
    torch.testing.assert_close(ours, theirs)
    if train:
        for out in (ours, theirs):
            out.float().square().mean().backward()
        for one, other in zip(compiled.parameters(), module.parameters()):
            torch.testing.assert_close(one.grad, other.grad)


def test_a_warning_is_no_break():
    """Of training on after switch_to_deploy: it is there, once."""
    module = make_kin(3).train()
    switch_to_deploy(module)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend='eager')
    x = torch.randn(2, 8, 6, 6)
    with pytest.warns(UserWarning, match='optimizer') as warned:
        compiled(x)
    assert len([w for w in warned if 'switch_to_deploy' in str(w.message)]) > 0
    with warnings.catch_warnings():
        warnings.simplefilter('error')
        compiled(x)
