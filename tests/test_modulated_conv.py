"""What a child keeps for backward, and what else autograd asks of it."""
import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.nn import functional as F

from mmkdna.modulated_conv import modulated_conv2d
from tests.utils import children_of, make_kin, randomize

OPTIONS = (1, 1), (1, 1), (1, 1), 1


def tensors(dtype=torch.float64, size=5):
    """Input, gate, kernel, factors and bias, all with a gradient."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((2, 4, size, size), (2, 4, 1, 1), (6, 4, 3, 3), (6, 1, 3, 3),
              (6, ))
    return [
        torch.randn(shape, dtype=dtype, generator=generator).requires_grad_()
        for shape in shapes
    ]


def kept_for_backward(function):
    """Elements of the storages that a forward keeps, each once."""
    storages = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t):
        output = function()
    return storages, output


def test_neither_product_is_kept():
    x, gate, weight, factors, bias = tensors(torch.float32, size=32)
    kept, output = kept_for_backward(
        lambda: modulated_conv2d(x, gate, weight, factors, bias, *OPTIONS))
    expected = {t.data_ptr() for t in (x, gate, weight, factors)}
    assert set(kept) == expected
    products, reference = kept_for_backward(
        lambda: F.conv2d(x * gate, weight * factors, bias, *OPTIONS))
    assert torch.equal(output, reference)
    assert sum(products.values()) > 1.9 * sum(kept.values())


@pytest.mark.parametrize('options', [
    dict(),
    dict(share=False),
    dict(modulation=('channel', )),
    dict(modulation=('filter', )),
])
def test_a_child_keeps_what_a_plain_convolution_does(options):
    child, *_ = children_of(randomize(make_kin(2, **options))).values()
    x = torch.randn(2, 8, 40, 40, requires_grad=True)
    kept, _ = kept_for_backward(lambda: child(x))
    own = {p.data_ptr() for p in [*child.parameters(), child.parent.weight]}
    small = sum(n for address, n in kept.items()
                if address not in own and address != x.data_ptr())
    assert small < 0.02 * x.nbytes


@pytest.mark.parametrize('without', [(), (1, ), (3, ), (1, 3), (4, )])
@pytest.mark.parametrize('frozen', [(), (0, ), (2, ), (0, 1), (2, 3, 4)])
def test_gradients_of_first_and_second_order(without, frozen):
    arguments = tensors()
    for index in frozen:
        arguments[index].requires_grad_(False)
    arguments = [
        None if i in without else argument
        for i, argument in enumerate(arguments)
    ]

    def compute(*arguments):
        return modulated_conv2d(*arguments, *OPTIONS)

    assert gradcheck(compute, arguments)
    assert gradgradcheck(compute, arguments)


def test_gradients_per_image():
    x, gate, *others = [t.detach() for t in tensors()]

    def loss(weight, x, gate, others=others):
        return modulated_conv2d(x[None], gate[None], weight, *others[1:],
                                *OPTIONS).square().sum()

    found = torch.func.vmap(
        torch.func.grad(loss), in_dims=(None, 0, 0))(others[0], x, gate)
    for i in range(2):
        weight = others[0].clone().requires_grad_()
        loss(weight, x[i], gate[i]).backward()
        torch.testing.assert_close(found[i], weight.grad)


def test_an_input_that_was_changed_is_refused():
    x, *others = tensors()
    x = x * 1
    others[0].requires_grad_(False)
    y = modulated_conv2d(x, *others, *OPTIONS)
    x.add_(1)
    with pytest.raises(RuntimeError, match='modified by an inplace'):
        y.sum().backward()


def test_a_trace_in_train_mode_is_of_ordinary_operations():
    module = randomize(make_kin(2)).train()
    x = torch.randn(2, 8, 6, 6)
    traced = torch.jit.trace(module, x, check_trace=False)
    assert 'PythonOp' not in str(traced.inlined_graph)
