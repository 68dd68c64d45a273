"""How alike the convolutions of a model are, on pictures."""
import pytest
import torch
from torch import nn

from mmkdna.analysis.memory import peak_memory
from mmkdna.similarity import measure_similarity
from mmkdna.similarity.cka import MinibatchCKA, gram


class Net(nn.Module):
    """A stage of two convolutions, a head that runs twice, one that never runs
    and one that sees each picture three times."""

    def __init__(self):
        super().__init__()
        self.stage = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3))
        self.head = nn.Conv2d(4, 4, 1)
        self.rois = nn.Conv2d(4, 4, 1)
        self.unused = nn.Conv2d(4, 4, 1)

    def forward(self, x):
        x = self.stage(x)
        self.rois(x.repeat(3, 1, 1, 1))
        return self.head(x), self.head(x[..., ::2, ::2])


def run(model, x):
    model(x)


def batches(*sizes):
    generator = torch.Generator().manual_seed(0)
    for size in sizes:
        yield torch.randn(size, 3, 12, 12, generator=generator)


@pytest.fixture
def net():
    torch.manual_seed(0)
    return Net().eval()


def test_it_names_what_runs_once_per_picture(net):
    found = measure_similarity(net, batches(8, 8), run, stage_level=1)
    assert found.names == ['stage.0', 'stage.1', 'head']
    assert found.stages == ['stage', 'stage', '']
    assert found.num_pictures == 16
    # Their kernels are compared all the same.
    kin = dict.fromkeys((pair.conv, pair.stage) for pair in found.pairs)
    assert list(kin) == [('head', ''), ('rois', ''), ('unused', '')]


@torch.no_grad()
def test_all_outputs_of_a_convolution_count_together(net):
    found = measure_similarity(net, batches(8), run)

    x = next(batches(8))
    outputs = torch.cat([out.flatten(1) for out in net(x)], 1)
    cka = MinibatchCKA(2)
    cka.add([gram(net.stage(x)), gram(outputs)])
    assert found.cka[1][2] == pytest.approx(float(cka.value()[0, 1]))


@torch.no_grad()
def test_a_layer_that_only_repeats_another_one_is_alike(net):
    net.stage[1].weight.zero_()
    for channel in range(4):
        net.stage[1].weight[channel, channel, 1, 1] = 2
    # Of the same size, so that no pixel is lost.
    net.stage[1].padding = (1, 1)
    found = measure_similarity(net, batches(8), run)
    assert found.cka[0][1] == pytest.approx(1, abs=1e-5)


def test_short_batches_do_not_count(net):
    found = measure_similarity(net, batches(8, 8, 5, 3), run)
    whole = measure_similarity(net, batches(8, 8), run)
    assert found.num_pictures == 16 and found.cka == whole.cka


def test_too_few_pictures_are_refused(net):
    with pytest.raises(ValueError, match='no batch has 4 pictures'):
        measure_similarity(net, batches(3), run)


@torch.no_grad()
@pytest.mark.parametrize('value, error', [
    (3e38, 'stage.1, of type Conv2d, is the first whose output has values'),
    (1e25, 'the output of stage.1 has values of up to .*e\\+2'),
])
def test_values_that_overflow_are_refused(net, value, error):
    net.stage[1].weight[0] = value
    with pytest.raises(ValueError, match=error):
        measure_similarity(net, batches(8), run)
    assert not any(m._forward_hooks for m in net.modules())


def test_nothing_is_left_at_the_model(net):
    measure_similarity(net, batches(8), run)
    assert not any(m._forward_hooks for m in net.modules())


def test_memory_does_not_grow_with_the_pictures(net):

    def peak(number):
        return peak_memory(
            lambda: measure_similarity(net, batches(*[8] * number), run),
            'cpu')

    assert peak(60) <= peak(3)
