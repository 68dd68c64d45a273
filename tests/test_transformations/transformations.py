"""What is done to models, one function for each."""
import copy
import io
import pickle
import threading
from contextlib import contextmanager
from multiprocessing.reduction import ForkingPickler
from typing import Any, Callable, NamedTuple, Optional

import torch
from mmcv.cnn import fuse_conv_bn
from mmengine.model import ExponentialMovingAverage
from mmengine.model.utils import revert_sync_batchnorm
from torch import nn
from torch.ao import quantization as tq
from torch.nn.utils import parametrizations, prune, spectral_norm, weight_norm
from torch.optim.swa_utils import AveragedModel

from mmkdna import kernel_dna_wrap_policy
from tests.test_transformations.models import shared_convs

FLOAT32 = 1e-5


class Done(NamedTuple):
    """What has become of a model.

    Attributes:
        net (callable): What computes now.
        x (Tensor): What it is given.
        expected (Tensor, optional): What it is to answer. Defaults to None,
            what the model answered before.
        module (nn.Module, optional): What can be deployed. Defaults to None,
            nothing.
    """
    net: Callable
    x: Any
    expected: Optional[Any] = None
    module: Optional[nn.Module] = None


class Transformation(NamedTuple):
    """A row of the matrix.

    Attributes:
        name (str): What it is called on the page.
        apply (callable): From a model in eval mode, which it may change, and
            an input to what is Done.
        tolerance (float): Of the answers, relative.
        gradients (bool): Whether gradients are to stay the same as well.
        quick (bool): Whether the default tests have it.
        deployed (bool): Whether the deployed model is tried as well.
    """
    name: str
    apply: Callable
    tolerance: float
    gradients: bool
    quick: bool
    deployed: bool = True


TABLE = []


def row(name, tolerance=FLOAT32, gradients=False, quick=True, deployed=True):

    def add(function):
        TABLE.append(
            Transformation(name, function, tolerance, gradients, quick,
                           deployed))
        return function

    return add


def changed(net):
    """The same model with other weights and statistics."""
    net = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(1.1)
        for name, buffer in net.named_buffers():
            if name.endswith('running_var'):
                buffer.mul_(1.2)
    return net


def with_state(net, state):
    """The same model with given weights, loaded the ordinary way."""
    net = copy.deepcopy(net)
    net.load_state_dict(state)
    return net


def gradients(net):
    return {
        name: parameter.grad.clone()
        for name, parameter in net.named_parameters()
        if parameter.grad is not None
    }


def backward(net, x):
    """The loss of all that is tested here, and its gradients."""
    net(x).square().sum().backward()


def assert_close(value, reference, tolerance=FLOAT32):
    value, reference = value.detach().double(), reference.detach().double()
    error = float((value - reference).norm() / reference.norm().clamp(1e-2))
    assert error <= tolerance, f'off by {error:.2g}'


def assert_same_gradients(found, expected, tolerance=1e-4):
    assert found.keys() == expected.keys(), 'other parameters have gradients'
    for name, value in expected.items():
        assert_close(found[name], value, tolerance)


# Copies and files.


@row('`copy.deepcopy`', gradients=True)
def _(net, x):
    done = copy.deepcopy(net)
    return Done(done, x, None, done)


@row('`pickle`, every protocol')
def _(net, x):
    expected = net(x)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        done = pickle.loads(pickle.dumps(net, protocol))
        assert_close(done(x), expected, 0)
    return Done(done, x, None, done)


@row('`torch.save` of the module', gradients=True)
def _(net, x):
    file = io.BytesIO()
    torch.save(net, file)
    file.seek(0)
    done = torch.load(file, weights_only=False)
    return Done(done, x, None, done)


@row('`share_memory`, sent to another process')
def _(net, x):
    net.share_memory()
    assert all(tensor.is_shared() for tensor in net.state_dict().values())
    # What a queue of torch.multiprocessing sends.
    done = pickle.loads(bytes(ForkingPickler.dumps(net)))
    ours, theirs = net.state_dict(), done.state_dict()
    assert ours.keys() == theirs.keys()
    assert_close(done(x), net(x), 0)
    return Done(net, x, None, net)


@row('`load_state_dict(assign=True)`', gradients=True)
def _(net, x):
    done = changed(net)
    done.load_state_dict(
        {
            key: value.clone()
            for key, value in net.state_dict().items()
        },
        assign=True)
    return Done(done, x, None, done)


@row('meta device, `to_empty` and loading', gradients=True)
def _(net, x):
    state = copy.deepcopy(net.state_dict())
    done = copy.deepcopy(net).to('meta').to_empty(device='cpu')
    done.load_state_dict(state)
    return Done(done, x, None, done)


@row('meta device, loading with `assign=True`', gradients=True)
def _(net, x):
    state = copy.deepcopy(net.state_dict())
    done = copy.deepcopy(net).to('meta')
    done.load_state_dict(state, assign=True)
    return Done(done, x, None, done)


# Averages.


def _ema(net, x, update_buffers):
    other = changed(net)
    average = ExponentialMovingAverage(
        net, momentum=0.25, update_buffers=update_buffers)
    average.update_parameters(net)
    average.update_parameters(other)
    ours, theirs = net.state_dict(), other.state_dict()
    averaged = dict(net.named_parameters())
    expected = {
        key:
        0.75 * ours[key] + 0.25 * theirs[key] if
        (key in averaged or
         (update_buffers and theirs[key].is_floating_point())) else theirs[key]
        for key in ours
    }
    return Done(average, x, with_state(net, expected)(x), average.module)


@row('EMA of mmengine')
def _(net, x):
    return _ema(net, x, False)


@row('EMA of mmengine, `update_buffers=True`')
def _(net, x):
    return _ema(net, x, True)


@row('SWA, `torch.optim.swa_utils.AveragedModel`')
def _(net, x):
    average, other = AveragedModel(net), changed(net)
    average.update_parameters(net)
    average.update_parameters(other)
    ours, theirs = net.state_dict(), other.state_dict()
    averaged = dict(net.named_parameters())
    expected = {
        key: (ours[key] + theirs[key]) / 2 if key in averaged else theirs[key]
        for key in ours
    }
    return Done(average.eval(), x,
                with_state(net, expected)(x), average.module)


# Types, formats and norms.


@row('SyncBN and back', gradients=True)
def _(net, x):
    done = nn.SyncBatchNorm.convert_sync_batchnorm(net)
    assert any(isinstance(m, nn.SyncBatchNorm) for m in done.modules()) or all(
        not isinstance(m, nn.BatchNorm2d) for m in net.modules())
    done = revert_sync_batchnorm(done).eval()
    return Done(done, x, None, done)


@row('`half`', 2e-2)
def _(net, x):
    return Done(net.half(), x.half(), None, net)


@row('`bfloat16`', 1e-1)
def _(net, x):
    return Done(net.bfloat16(), x.bfloat16(), None, net)


@row('`double`', gradients=True)
def _(net, x):
    return Done(net.double(), x.double(), None, net)


@row('`channels_last`', gradients=True)
def _(net, x):
    layout = dict(memory_format=torch.channels_last)
    return Done(net.to(**layout), x.to(**layout), None, net)


@contextmanager
def _future(name):
    setter = getattr(torch.__future__, f'set_{name}')
    before = getattr(torch.__future__, f'get_{name}')()
    setter(True)
    try:
        yield
    finally:
        setter(before)


@row('conversion with new parameters (`torch.__future__`)', gradients=True)
def _(net, x):
    with _future('overwrite_module_params_on_conversion'):
        net.double()
    return Done(net, x.double(), None, net)


@row('conversion by swapping (`torch.__future__`)', gradients=True)
def _(net, x):
    with _future('swap_module_params_on_conversion'):
        net.double()
    return Done(net, x.double(), None, net)


# Training.


def _freeze(net, x, chosen):
    twin = copy.deepcopy(net)
    backward(twin, x)
    frozen = {
        f'{name}.{key}'
        for name, (conv, _) in shared_convs(net).items() if chosen(conv)
        for key, _ in conv.named_parameters()
    }
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(name not in frozen)
    backward(net, x)
    expected = {
        name: grad
        for name, grad in gradients(twin).items() if name not in frozen
    }
    assert_same_gradients(gradients(net), expected)
    return Done(net, x, None, net)


@row('freezing parents alone')
def _(net, x):
    return _freeze(net, x, lambda conv: getattr(conv, 'role', '') == 'parent')


@row('freezing children alone')
def _(net, x):
    return _freeze(net, x, lambda conv: getattr(conv, 'role', '') == 'child')


@row('accumulating gradients')
def _(net, x):
    twin = copy.deepcopy(net)
    backward(twin, x)
    for image in x:
        backward(net, image[None])
    assert_same_gradients(gradients(net), gradients(twin))
    return Done(net, x, None, net)


@row('`inference_mode`, then training', gradients=True)
def _(net, x):
    with torch.inference_mode():
        net(x)
    return Done(net, x, None, net)


@row('threads on one model')
def _(net, x):
    inputs = [x * factor for factor in (1, 0.5, 2, -1)]
    found = [None] * len(inputs)

    def run(number):
        with torch.no_grad():
            for _ in range(3):
                found[number] = net(inputs[number])

    threads = [
        threading.Thread(target=run, args=(number, ))
        for number in range(len(inputs))
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for given, value in zip(inputs, found):
        assert_close(value, net(given))
    return Done(net, x, None, net)


# Kernels changed by others.


@row('`fuse_conv_bn` of mmcv', 1e-4)
def _(net, x):
    done = fuse_conv_bn(net)
    return Done(done, x, None, done)


def _computed(net, x, change, role=None):
    """Have kernels be computed from others, as norms and masks do."""
    twin = copy.deepcopy(net)
    chosen = {
        name: (conv, key)
        for name, (conv, key) in shared_convs(net).items()
        if role is None or getattr(conv, 'role', role) in (role, 'plain')
    }
    for conv, key in chosen.values():
        change(conv, key)
    net.eval()(x)
    with torch.no_grad():
        for name, (conv, key) in chosen.items():
            getattr(twin.get_submodule(name), key).copy_(getattr(conv, key))
    return Done(net, x, twin(x), net)


@row('pruning (`torch.nn.utils.prune`)')
def _(net, x):
    return _computed(
        net, x,
        lambda conv, key: prune.random_unstructured(conv, key, amount=0.5))


@row('`torch.nn.utils.weight_norm`')
def _(net, x):
    return _computed(net, x, weight_norm)


@row('`torch.nn.utils.spectral_norm`')
def _(net, x):
    return _computed(net, x, spectral_norm)


@row('`parametrizations.weight_norm` of parents')
def _(net, x):
    return _computed(net, x, parametrizations.weight_norm, 'parent')


@row('`parametrizations.spectral_norm` of parents')
def _(net, x):
    return _computed(net, x, parametrizations.spectral_norm, 'parent')


@row('`parametrizations.spectral_norm` of children')
def _(net, x):
    return _computed(net, x, parametrizations.spectral_norm, 'child')


# Graphs.


@row('`torch.jit.trace`', quick=False)
def _(net, x):
    return Done(torch.jit.trace(net, x, check_trace=False), x)


@row('`torch.fx.symbolic_trace`')
def _(net, x):
    return Done(torch.fx.symbolic_trace(net), x)


@row('`torch.export`', quick=False)
def _(net, x):
    return Done(torch.export.export(net, (x, )).module(), x)


# Tracing takes half a minute; tests/test_compile.py has the deployed forms.
@row('`torch.compile`, as trained', quick=False, deployed=False)
def _(net, x):
    torch._dynamo.reset()
    compiled = torch.compile(net, fullgraph=True, backend='eager')
    backward(compiled, x)
    found = gradients(net)
    net.zero_grad()
    backward(net, x)
    assert_same_gradients(found, gradients(net))
    return Done(compiled, x, None, net)


# Functions of parameters.


@row('`torch.func.functional_call`')
def _(net, x):
    other = changed(net)
    expected = other(x)
    found = torch.func.functional_call(net, other.state_dict(), (x, ))
    assert_close(found, expected)
    return Done(net, x, None, net)


@row('`vmap` over an ensemble')
def _(net, x):
    ensemble = [net, changed(net)]
    expected = torch.stack([member(x) for member in ensemble])
    state = torch.func.stack_module_state(ensemble)
    base = copy.deepcopy(net).to('meta')

    def run(parameters, buffers):
        return torch.func.functional_call(base, (parameters, buffers), (x, ))

    return Done(lambda x: torch.vmap(run)(*state), x, expected)


# Quantization.


@row('quantization, dynamic', 5e-2)
def _(net, x):
    done = tq.quantize_dynamic(net)
    return Done(done, x, None, done)


def _prepared(net, x, prepare, qconfig):
    """With observers, which answers as before; so it shows what has them."""
    net.qconfig = qconfig
    done = prepare(net)
    for name in shared_convs(net):
        conv = done.get_submodule(name)
        assert hasattr(conv, 'activation_post_process'), 'left in float'
    return Done(done.eval(), x)


@row('quantization, static', 5e-2)
def _(net, x):
    return _prepared(net, x, tq.prepare, tq.get_default_qconfig('fbgemm'))


@row('quantization, in training', 5e-2)
def _(net, x):
    return _prepared(net.train(), x, tq.prepare_qat,
                     tq.get_default_qat_qconfig('fbgemm'))


# Many processes; here one.


@contextmanager
def one_process():
    """A group of this process alone."""
    torch.distributed.init_process_group(
        'gloo', store=torch.distributed.HashStore(), rank=0, world_size=1)
    try:
        yield
    finally:
        torch.distributed.destroy_process_group()


def _distributed(net, x, wrap):
    twin = copy.deepcopy(net)
    backward(twin, x)
    with one_process():
        done = wrap(net)
        backward(done, x)
        found = {
            name.replace('_fsdp_wrapped_module.', '').replace('module.', ''):
            parameter.grad
            for name, parameter in done.named_parameters()
        }
        found = {
            name: getattr(grad, 'full_tensor', grad.clone)()
            for name, grad in found.items()
        }
        assert_same_gradients(found, gradients(twin))
        answer = done(x).detach().clone()
    return done, Done(lambda x: answer, x)


@row('DDP')
def _(net, x):
    done, out = _distributed(net, x, nn.parallel.DistributedDataParallel)
    return Done(done.module, x, None, done.module)


@row('FSDP, `kernel_dna_wrap_policy`', quick=False)
def _(net, x):
    from torch.distributed.fsdp import FullyShardedDataParallel
    return _distributed(
        net, x, lambda net: FullyShardedDataParallel(
            net,
            auto_wrap_policy=kernel_dna_wrap_policy,
            use_orig_params=True,
            device_id=torch.device('cpu')))[1]


@row('`fully_shard`', quick=False)
def _(net, x):
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard
    return _distributed(
        net, x,
        lambda net: fully_shard(net, mesh=init_device_mesh('cpu', (1, ))))[1]
