"""Linear CKA over minibatches."""
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader

from mmkdna.similarity.cka import MinibatchCKA, gram


def hsic(kernels, n):
    """HSIC_1 of two layers, written out from the formula."""
    k, m = (kernel - kernel.diag().diag() for kernel in kernels)
    one = torch.ones(n, dtype=torch.float64)
    return ((k @ m).trace() + (one @ k @ one) * (one @ m @ one) /
            ((n - 1) * (n - 2)) - 2 / (n - 2) * (one @ k @ m @ one)) / (
                n * (n - 3))


def test_it_is_the_formula_summed_over_batches():
    torch.manual_seed(0)
    layers = [
        torch.randn(3, 6, size, dtype=torch.float64) + 5 for size in (4, 7, 30)
    ]
    cka = MinibatchCKA(3)
    for batch in range(3):
        cka.add([gram(layer[batch]) for layer in layers])
    sums = torch.stack([
        torch.stack([
            sum(hsic((x @ x.t(), y @ y.t()), 6) for x, y in zip(one, other))
            for other in layers
        ]) for one in layers
    ])
    own = sums.diagonal().sqrt()
    torch.testing.assert_close(
        cka.value(), sums / torch.outer(own, own), rtol=1e-10, atol=1e-12)


def test_it_is_that_of_a_kept_implementation():
    library = pytest.importorskip('cka')
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.ReLU(),
        nn.Conv2d(8, 4, 3)).double()
    batches = torch.randn(4, 8, 3, 9, 9, dtype=torch.float64)
    names = ['0', '2', '4']
    expected, = library.compute_cka(
        model,
        model,
        DataLoader(batches.flatten(0, 1), batch_size=8),
        layers=names,
        progress=False)
    cka = MinibatchCKA(3)
    with torch.no_grad():
        for batch in batches:
            outputs = [batch]
            for layer in model:
                outputs.append(layer(outputs[-1]))
            cka.add([gram(outputs[1 + int(name)]) for name in names])
    torch.testing.assert_close(
        cka.value(), expected.double().cpu(), rtol=1e-4, atol=1e-4)


def compare(one, other):
    cka = MinibatchCKA(2)
    for x, y in zip(one, other):
        cka.add([gram(x), gram(y)])
    return cka.value()[0, 1]


def test_a_rotation_and_a_factor_change_nothing():
    torch.manual_seed(0)
    x = torch.randn(5, 16, 12, dtype=torch.float64)
    rotation = torch.linalg.qr(torch.randn(12, 12, dtype=torch.float64))[0]
    assert compare(x, 3 * x @ rotation + 7) == pytest.approx(1, abs=1e-9)


def test_noise_has_nothing_in_common_with_anything():
    torch.manual_seed(0)
    one, other = torch.randn(2, 200, 16, 50, dtype=torch.float64)
    assert abs(compare(one, other)) < 0.02


def test_a_layer_that_is_the_same_for_all_pictures_has_none():
    torch.manual_seed(0)
    constant = torch.rand(1, 1, 8).expand(3, 6, 8) * 1e3
    value = compare(torch.randn(3, 6, 8), constant)
    assert value.isnan()


def test_too_few_pictures_are_refused():
    with pytest.raises(ValueError, match='3 pictures is given, 4 or more'):
        MinibatchCKA(1).add([torch.zeros(3, 3)])
