"""A derived kernel is kept where it is asked for, and nowhere else."""
import copy
import io
import pickle

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import (BaseModel, ExponentialMovingAverage,
                            StochasticWeightAverage)
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict
from mmengine.utils import digit_version
from torch import nn
from torch.nn.utils import parameters_to_vector, vector_to_parameters
from torch.optim.sgd import sgd as functional_sgd
from torch.utils.checkpoint import checkpoint

from mmkdna import KernelKeepingHook, kept_kernels, switch_to_deploy
from tests.utils import children_of, compiles, make_kin, randomize

X = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))
OPTIONS = [
    dict(),
    dict(share=False),
    dict(keep_own_kernel=True),
    dict(modulation=('filter', ))
]


def make(*arguments, **options):
    return randomize(make_kin(*arguments, **options)).eval()


def kernels(module):
    """The kernels its children compute with, without gradients."""
    with torch.no_grad():
        return [conv.kernel() for conv in children_of(module).values()]


def by_hand(module):
    """The kernels of children that have no kernel of their own."""
    found = []
    for child in children_of(module).values():
        adapter, weight = child.adapter, child.parent.weight.detach().double()
        found.append(weight * (1 + adapter.filter.detach().double()) *
                     (1 + adapter.spatial.detach().double()))
    return found


def step(module):
    optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
    module(X).sum().backward()
    optimizer.step()


def step_adam(module):
    optimizer = torch.optim.AdamW(module.parameters(), lr=0.1)
    module(X).sum().backward()
    optimizer.step()


class Stealthy(torch.optim.Optimizer):
    """Leaves no trace on a parameter, as a fused optimizer does."""

    def step(self):
        for parameter in self.param_groups[0]['params']:
            parameter.data.mul_(2)


def step_without_a_trace(module):
    Stealthy(module.parameters(), {}).step()


def other_state(module):
    return randomize(copy.deepcopy(module)).state_dict()


def load(module):
    module.load_state_dict(other_state(module))


def load_by_assigning(module):
    module.load_state_dict(other_state(module), assign=True)


def load_by_mmengine(module):
    load_state_dict(module, other_state(module), strict=True)


def to_double(module):
    module.double()


def there_and_back(module):
    # The numbers change, and the addresses may be the old ones again.
    module.half().float()


@torch.no_grad()
def write_to_the_parent(module):
    module[0][0].parent.weight[0].mul_(2)


@torch.no_grad()
def write_to_the_filter(module):
    module[0][0].adapter.filter[0].add_(1)


@torch.no_grad()
def write_to_the_spatial_factor(module):
    module[0][0].adapter.spatial.zero_()


def replace_the_weight(module):
    parent = module[0][0].parent
    parent.weight = nn.Parameter(parent.weight.detach() * 2)


def replace_the_data(module):
    parent = module[0][0].parent
    parent.weight.data = parent.weight.data * 2


@torch.no_grad()
def write_to_the_data(module):
    module[0][0].parent.weight.data.mul_(2)


def move_away_and_back(module):
    weight = module[0][0].parent.weight
    before = weight.data
    weight.data = before * 2
    module(X)
    weight.data = before
    before.mul_(3)


def set_from_a_vector(module):
    vector = parameters_to_vector(module.parameters())
    vector_to_parameters(vector * 2, module.parameters())


def average_by_mmengine(module, cls=ExponentialMovingAverage):
    average = cls(module)
    average.update_parameters(module)
    with torch.no_grad():
        average.module(X)
    average.update_parameters(make(3, share=module[0][0].options.share))
    module[0][0].parent.weight.data = average.module[0][0].parent.weight.data


def average_evenly_by_mmengine(module):
    average_by_mmengine(module, StochasticWeightAverage)


def call_a_functional_optimizer(module):
    parameters = list(module.parameters())
    module(X).sum().backward()
    grads = [p.grad for p in parameters]
    with torch.no_grad():
        functional_sgd(
            parameters,
            grads, [None] * len(parameters),
            weight_decay=0,
            momentum=0,
            lr=0.1,
            dampening=0,
            nesterov=False,
            maximize=False)


def write_by_an_optimizer_that_is_none(module):
    module(X).sum().backward()
    for parameter in module.parameters():
        parameter.detach().add_(parameter.grad, alpha=-0.1)


def write_through_numpy(module):
    module[0][0].parent.weight.detach().numpy()[:] *= 2


def write_through_dlpack(module):
    torch.from_dlpack(module[0][0].parent.weight.detach()).mul_(2)


def write_through_storage(module):
    weight = module[0][0].parent.weight.detach()
    torch.empty(0).set_(weight.untyped_storage(), 0, weight.shape).mul_(2)


CHANGES = [
    step, step_adam, step_without_a_trace, load, load_by_assigning,
    load_by_mmengine, to_double, there_and_back, write_to_the_parent,
    write_to_the_filter, write_to_the_spatial_factor, replace_the_weight,
    replace_the_data, write_to_the_data, move_away_and_back, set_from_a_vector,
    average_by_mmengine, average_evenly_by_mmengine,
    call_a_functional_optimizer, write_by_an_optimizer_that_is_none,
    write_through_numpy, write_through_dlpack, write_through_storage
]


@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('change', CHANGES, ids=lambda c: c.__name__)
def test_no_change_of_weights_leaves_an_old_kernel(change, share):
    module = make(3, share=share)
    with kept_kernels(module), torch.no_grad():
        module(X)
    before = kernels(module)
    change(module)
    after = kernels(module)
    assert change is to_double or not torch.equal(after[0], before[0])
    for ours, theirs in zip(after, by_hand(module)):
        torch.testing.assert_close(ours.double(), theirs, rtol=1e-5, atol=1e-6)
    # A forward sees the same.
    x = X.to(module[0][0].adapter.filter)
    twin = pickle.loads(pickle.dumps(module))
    with torch.no_grad():
        assert torch.equal(module(x), twin(x))


@pytest.mark.parametrize('options', OPTIONS)
def test_kernels_are_derived_once_inside(options, monkeypatch):
    module = make(3, **options)
    with torch.no_grad():
        expected = module(X)
    calls = []
    for child in children_of(module).values():
        factors = child.adapter.factors
        monkeypatch.setattr(
            child.adapter, 'factors', lambda f=factors: calls.append(1) or f())
    with kept_kernels(module) as given:
        assert given is module
        assert len(calls) == len(children_of(module))
        with torch.no_grad():
            assert torch.equal(module(X), expected)
        with torch.inference_mode():
            assert torch.equal(module(X), expected)
        assert len(calls) == len(children_of(module))
    with torch.no_grad():
        module(X)
    assert len(calls) == 2 * len(children_of(module))


def test_an_inner_one_leaves_what_the_outer_one_keeps():
    module = make(2)
    with kept_kernels(module):
        kept, = kernels(module)
        with kept_kernels(module):
            assert kernels(module)[0] is kept
        assert kernels(module)[0] is kept
    assert kernels(module)[0] is not kept


def test_an_error_ends_it():
    module = make(2)
    with pytest.raises(ZeroDivisionError), kept_kernels(module):
        1 / 0
    assert module[0][0]._kept_kernel is None


def test_nothing_is_kept_of_half_a_model():
    module = make(3)
    broken = list(children_of(module).values())[1]
    broken.adapter.filter = nn.Parameter(torch.zeros(5, 1, 1, 1))
    with pytest.raises(RuntimeError), kept_kernels(module):
        pass
    assert module[0][0]._kept_kernel is None


@pytest.mark.parametrize('change', [
    lambda m: m.train(), lambda m: m.eval(), lambda m: m.double(),
    lambda m: m.to('cpu')
])
def test_a_switch_of_mode_and_a_move_end_it(change):
    module = make(2)
    with kept_kernels(module):
        change(module)
        assert module[0][0]._kept_kernel is None


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_keeps_nothing(duplicate):
    module = make(2)
    with kept_kernels(module):
        twin = duplicate(module)
        assert twin[0][0]._kept_kernel is None
        write_to_the_parent(twin)
        assert torch.allclose(kernels(twin)[0].double(), by_hand(twin)[0])


def test_no_file_holds_it():

    def size():
        file = io.BytesIO()
        torch.save(module, file)
        return file.getbuffer().nbytes

    module = make(2, channels=32)
    before, states = size(), list(module.state_dict())
    with kept_kernels(module):
        assert size() - before < 1000 < module[0][0].kernel().numel()
        assert list(module.state_dict()) == states


def test_gradients_flow_inside_and_outside():
    module = make(3)
    reference = copy.deepcopy(module)
    with kept_kernels(module):
        module(X).sum().backward()
    reference(X).sum().backward()
    for (name, ours), theirs in zip(module.named_parameters(),
                                    reference.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)
        # Gates may be shut by their relu.
        assert 'gate' in name or ours.grad.abs().sum() > 0, name


def test_a_frozen_module_passes_gradients_on():
    module = make(2).requires_grad_(False)
    x = X.clone().requires_grad_()
    module(x).sum().backward()
    assert x.grad.abs().sum() > 0


def test_a_model_made_in_inference_mode():
    module = make(2)
    with torch.inference_mode():
        twin = copy.deepcopy(module)
        with kept_kernels(twin):
            assert torch.equal(twin(X), module(X))
        twin[0][1].weight.mul_(2)
        assert torch.equal(kernels(twin)[0], 2 * kernels(module)[0])


@pytest.mark.parametrize('reentrant', [True, False])
@pytest.mark.parametrize('training', [True, False])
def test_checkpointed_blocks(reentrant, training):
    module = make(3).train(training)
    twin = copy.deepcopy(module)
    x, y = (X.clone().requires_grad_() for _ in range(2))
    out = checkpoint(module, x, use_reentrant=reentrant)
    expected = twin(y)
    assert torch.equal(out, expected)
    out.square().sum().backward()
    expected.square().sum().backward()
    torch.testing.assert_close(x.grad, y.grad)
    for ours, theirs in zip(module.parameters(), twin.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_functional_call_sees_its_own_parameters():
    module = make(2)
    before = kernels(module)
    state = {k: v.clone() for k, v in module.state_dict().items()}
    state['0.1.weight'].mul_(2)
    loaded = copy.deepcopy(module)
    loaded.load_state_dict(state)
    with torch.no_grad():
        out = torch.func.functional_call(module, state, (X, ))
        assert torch.equal(out, loaded(X))
    assert torch.equal(kernels(module)[0], before[0])


@pytest.mark.skipif(
    digit_version(torch.__version__) < digit_version('2.5'),
    reason='torch.export cannot yet trace attributes of the convolution')
def test_it_can_be_exported():
    module = make(2)
    with torch.no_grad():
        for keeping in (False, True):
            if keeping:
                with kept_kernels(module):
                    exported = torch.export.export(module, (X, )).module()
            else:
                exported = torch.export.export(module, (X, )).module()
            torch.testing.assert_close(exported(X), module(X))


@compiles
@pytest.mark.parametrize('training', [True, False])
@pytest.mark.parametrize('options', [dict(), dict(share=False)])
def test_compiling_has_no_break(options, training):
    module = make(3, **options).train(training)
    twin = copy.deepcopy(module)
    torch._dynamo.reset()
    compiled = torch.compile(module, fullgraph=True, backend='eager')
    with torch.set_grad_enabled(training):
        torch.testing.assert_close(compiled(X), twin(X))
    if not training:
        with torch.no_grad(), kept_kernels(module):
            torch.testing.assert_close(compiled(X), twin(X))
            write_to_the_parent(twin)
        write_to_the_parent(module)
        with torch.no_grad():
            torch.testing.assert_close(compiled(X), twin(X))
        with torch.no_grad():
            switch_to_deploy(module)
            torch.testing.assert_close(compiled(X), twin(X))


class Net(BaseModel):

    def __init__(self):
        super().__init__()
        self.backbone = randomize(make_kin(3))
        # What a fresh copy computes, beside what validation computed.
        self.checked = []

    def forward(self, inputs, mode='tensor', **_):
        inputs = torch.stack(inputs)
        out = self.backbone(inputs)
        if mode == 'loss':
            return dict(loss=out.square().mean())
        twin = copy.deepcopy(self.backbone)
        kept = self.backbone[0][0]._kept_kernel
        self.checked.append((out, twin(inputs), kept))
        return [None]


def test_a_run_with_ema_and_validation(tmp_path):
    data = dict(
        dataset=[dict(inputs=x) for x in X],
        batch_size=1,
        sampler=dict(type='DefaultSampler', shuffle=False))
    net = Net()
    runner = Runner(
        net,
        str(tmp_path),
        train_dataloader=data,
        val_dataloader=data,
        train_cfg=dict(by_epoch=True, max_epochs=3),
        val_cfg=dict(),
        val_evaluator=[],
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=1e-4)),
        test_dataloader=data,
        test_cfg=dict(),
        test_evaluator=[],
        custom_hooks=[EMAHook(momentum=0.5),
                      dict(type='KernelKeepingHook')],
        default_hooks=dict(logger=None),
        experiment_name='kept')
    runner.train()
    assert net.backbone[0][0]._kept_kernel is None
    runner.test()
    assert net.backbone[0][0]._kept_kernel is None
    assert len(net.checked) == 4 * len(X)
    for out, expected, kept in net.checked:
        assert torch.isfinite(out).all() and torch.equal(out, expected)
        assert kept is not None
    loops = [net.checked[i:i + len(X)] for i in range(0, 4 * len(X), len(X))]
    for loop in loops:
        assert all(kept is loop[0][2] for _, _, kept in loop)
    assert not torch.equal(loops[0][0][0], loops[1][0][0])


def test_the_hook_goes_on_after_a_loop_that_failed():
    module, hook = make(2), KernelKeepingHook()

    class Fake:
        model = module

    hook.before_val_iter(Fake, 0)
    kept, = kernels(module)
    write_to_the_parent(module)
    # The next loop, after one that raised.
    hook.before_val_iter(Fake, 0)
    assert torch.allclose(kernels(module)[0].double(), by_hand(module)[0])
    assert kernels(module)[0] is not kept
    hook.after_val_epoch(Fake, metrics={})
    assert module[0][0]._kept_kernel is None
