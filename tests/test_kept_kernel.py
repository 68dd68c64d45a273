"""A derived kernel is kept in eval mode, and never after it is out of date."""
import copy
import io
import pickle

import pytest
import torch
from mmengine.hooks import EMAHook
from mmengine.model import BaseModel, ExponentialMovingAverage
from mmengine.runner import Runner
from mmengine.runner.checkpoint import load_state_dict
from mmengine.utils import digit_version
from torch import nn
from torch.utils.checkpoint import checkpoint

from tests.utils import children_of, make_kin, randomize

X = torch.randn(2, 8, 6, 6, generator=torch.Generator().manual_seed(0))


def make(*arguments, **options):
    return randomize(make_kin(*arguments, **options)).eval()


def kernels(module):
    """The kernels its children compute with, without gradients."""
    with torch.no_grad():
        return [conv.kernel() for conv in children_of(module).values()]


def are_kept(module):
    """Whether a second look finds the same kernels, and right ones."""
    first, second = kernels(module), kernels(module)
    fresh = kernels_of_a_copy(module)
    assert all(map(torch.equal, second, fresh))
    return all(a is b for a, b in zip(first, second))


def kernels_of_a_copy(module):
    """The same, derived by a module that has nothing to keep yet."""
    return kernels(copy.deepcopy(module))


@pytest.mark.parametrize('options', [
    dict(),
    dict(share=False),
    dict(keep_own_kernel=True),
    dict(modulation=('filter', ))
])
def test_kernels_are_derived_once(options, monkeypatch):
    module = make(3, **options)
    assert are_kept(module)
    calls = []
    for child in children_of(module).values():
        monkeypatch.setattr(child.adapter, 'derive',
                            lambda *_: calls.append(1))
    for _ in range(3):
        with torch.no_grad():
            module(X)
        with torch.inference_mode():
            module(X)
    assert not calls


@pytest.mark.parametrize('grad, training', [(True, False), (True, True),
                                            (False, True)])
def test_no_kernel_is_kept_in_training_or_with_gradients(grad, training):
    child = make(2)[0][0].train(training)
    with torch.set_grad_enabled(grad):
        assert child.kernel() is not child.kernel()
    assert child._kept_kernel is None


def change_mode(module):
    module.train()
    module.eval()


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


CHANGES = [
    change_mode, step, step_adam, step_without_a_trace, load,
    load_by_assigning, load_by_mmengine, to_double, there_and_back,
    write_to_the_parent, write_to_the_filter, write_to_the_spatial_factor,
    replace_the_weight, replace_the_data
]


@pytest.mark.parametrize('share', [True, False])
@pytest.mark.parametrize('change', CHANGES, ids=lambda c: c.__name__)
def test_a_kernel_is_derived_anew_after(change, share):
    module = make(3, share=share)
    before = kernels(module)
    change(module)
    after = kernels(module)
    assert after[0] is not before[0]
    if change is not change_mode:
        assert not torch.equal(after[0], before[0])
    assert are_kept(module)


def test_addresses_that_are_used_again_are_no_proof():
    # Tensors that come and go get the place of those before them.
    module = make(2)
    child, parent = module[0]
    with torch.no_grad():
        for number in range(20):
            parent.weight = nn.Parameter(torch.full((8, 8, 3, 3), number + 1.))
            expected = child.adapter.derive(parent.weight)
            assert torch.equal(child.kernel(), expected)


def test_another_parameter_over_the_same_memory():
    module = make(2)
    child, parent = module[0]
    kernels(module)
    version = parent.weight._version
    parent.weight = nn.Parameter(parent.weight.data)
    with torch.no_grad():
        while parent.weight._version < version:
            parent.weight.mul_(2)
        assert parent.weight._version == version
    assert are_kept(module)


def test_moving_drops_it():
    module = make(2)
    kernels(module)
    module.to('cpu')
    assert module[0][0]._kept_kernel is None


def test_own_kernels_on_their_way():
    module = make(3, keep_own_kernel=True)
    for share in (1., 0.5, 0.):
        before = kernels(module)
        for child in children_of(module).values():
            child.own_share.fill_(share)
        assert kernels(module)[0] is not before[0]
        assert are_kept(module)
    for child in children_of(module).values():
        child.drop_own_weight()
    assert are_kept(module)


@pytest.mark.parametrize(
    'duplicate',
    [copy.deepcopy, lambda module: pickle.loads(pickle.dumps(module))])
def test_a_copy_keeps_its_own(duplicate):
    module = make(2)
    mine = kernels(module)
    twin = duplicate(module)
    theirs = kernels(twin)
    assert theirs[0] is not mine[0] and torch.equal(theirs[0], mine[0])
    write_to_the_parent(twin)
    assert not torch.equal(kernels(twin)[0], mine[0])
    assert kernels(module)[0] is mine[0]


def test_no_file_holds_it():

    def size(module):
        file = io.BytesIO()
        torch.save(module, file)
        return file.getbuffer().nbytes

    module = make(2, channels=32)
    before = size(module)
    states = list(module.state_dict())
    kernels(module)
    assert size(module) - before < 1000 < module[0][0].kernel().numel()
    assert list(module.state_dict()) == states


def test_inference_mode_and_gradients_in_turns():
    module = make(3)
    reference = copy.deepcopy(module)
    for _ in range(2):
        with torch.inference_mode():
            inferred = module(X)
        with torch.no_grad():
            assert torch.equal(module(X), inferred)
        module.zero_grad()
        module(X).sum().backward()
    reference(X).sum().backward()
    for ours, theirs in zip(module.parameters(), reference.parameters()):
        torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_model_made_in_inference_mode():
    module = make(2)
    with torch.inference_mode():
        twin = copy.deepcopy(module)
        assert torch.equal(twin(X), module(X))
        twin[0][1].weight.mul_(2)
        assert torch.equal(kernels(twin)[0], 2 * kernels(module)[0])


def test_no_kernel_outlives_a_forward_with_gradients():
    module = make(2)
    kernels(module)
    module(X).sum().backward()
    # As FSDP does after an optimizer's step: no trace on the parent.
    module[0][1].weight.data.mul_(2)
    assert are_kept(module)


def test_gradients_flow_in_eval_mode():
    module = make(3)
    kernels(module)
    module(X).sum().backward()
    for name, parameter in module.named_parameters():
        # Gates may be shut by their relu, but not left out.
        assert parameter.grad is not None, name
        if 'gate' not in name:
            assert parameter.grad.abs().sum() > 0, name


def test_a_frozen_module_passes_gradients_on():
    module = make(2).requires_grad_(False)
    kernels(module)
    x = X.clone().requires_grad_()
    module(x).sum().backward()
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize('reentrant', [True, False])
@pytest.mark.parametrize('training', [True, False])
def test_checkpointed_blocks(reentrant, training):
    module = make(3).train(training)
    kernels(module)
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
    reason='torch.export cannot yet trace what looks for changed weights')
def test_it_can_be_exported_before_and_after():
    module = make(2)
    with torch.no_grad():
        for _ in range(2):
            exported = torch.export.export(module, (X, )).module()
            torch.testing.assert_close(exported(X), module(X))


def test_an_average_of_models():
    module = make(2)
    average = ExponentialMovingAverage(module, momentum=0.5)
    average.eval()
    kernels(average.module)
    average.update_parameters(module)
    for number in range(3):
        step(module)
        average.update_parameters(module)
        # Its update writes to the values of the parameters or through data.
        average.eval()
        assert are_kept(average.module)


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
        self.checked.append((out, twin(inputs)))
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
        custom_hooks=[EMAHook(momentum=0.5)],
        default_hooks=dict(logger=None),
        experiment_name='kept')
    runner.train()
    assert len(net.checked) == 3 * len(X)
    for out, expected in net.checked:
        assert torch.isfinite(out).all() and torch.equal(out, expected)
    weights = [out for out, _ in net.checked[::len(X)]]
    assert not torch.equal(weights[0], weights[1])
    # EMAHook has swapped back through `.data`, which leaves no trace.
    net.eval()
    assert are_kept(net.backbone)
