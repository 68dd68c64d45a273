"""Memory against what is counted by hand."""
import pytest
import torch
from torch import nn

from mmkdna.analysis.memory import backward_memory, peak_memory


class Scale(nn.Module):
    """A product and an exponential: what both keep is known."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(1000, 1))

    def forward(self, x):
        return (x * self.weight).exp()


# 1000 by 1000 values of four bytes.
X = torch.randn(1000, 1000)
SIZE = 4_000_000


def test_peak_of_a_forward():
    scale = Scale()
    with torch.no_grad():
        assert peak_memory(lambda: scale(X), 'cpu') == 2 * SIZE
        # The inner product is gone when the second exponential comes.
        assert peak_memory(lambda: scale(X).exp(), 'cpu') == 2 * SIZE
        assert peak_memory(lambda: (scale(X), scale(X)), 'cpu') == 3 * SIZE


def test_peak_of_a_step():
    scale = Scale()

    def step():
        scale(X).sum().backward()

    # Two of this size at a time, backward as forward, and in the end the
    # gradient of the weight; beside them a few numbers.
    peak = peak_memory(step, 'cpu')
    assert 0 <= peak - (2 * SIZE + 4000) < 100


def test_what_is_there_before_does_not_count():
    before = torch.empty(1000, 1000)
    assert peak_memory(lambda: before.add_(1), 'cpu') < 100


def test_what_a_forward_keeps():
    scale = Scale()
    # The images for the gradient of the weight, and the exponential.
    assert backward_memory(lambda: scale(X), scale) == 2 * SIZE
    with torch.no_grad():
        assert backward_memory(lambda: scale(X), scale) == 0


def test_a_small_network_by_hand():
    net = nn.Sequential(
        nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4),
        nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(4 * 64, 5))
    images = 2 * 3 * 64 * 4
    features = 2 * 4 * 64 * 4
    # The convolution keeps the images, the norm its input and mean and
    # deviation of four channels. What the activation and the linear layer
    # keep is one memory. Kernels and running statistics are the network's.
    expected = images + features + 2 * 4 * 4 + features
    x = torch.randn(2, 3, 8, 8)
    assert backward_memory(lambda: net(x), net) == expected
    for parameter in net.parameters():
        parameter.requires_grad_(False)
    assert backward_memory(lambda: net(x), net) == 0


def test_what_no_output_asks_for_is_not_kept():
    scale = Scale()

    def forward():
        scale(X)
        return scale(X[:, :10])

    # The images are one memory, of which ten columns are shown.
    assert backward_memory(forward, scale) == SIZE + 10 * 1000 * 4


def test_a_backward_still_works():
    scale, twin = Scale(), Scale()
    outputs = []
    backward_memory(lambda: outputs.append(scale(X)) or outputs, scale)
    outputs[0].sum().backward()
    twin(X).sum().backward()
    torch.testing.assert_close(scale.weight.grad, twin.weight.grad)


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_peak_on_a_gpu():
    x = X.cuda()
    # Its allocator rounds sizes up.
    peak = peak_memory(lambda: x.exp().exp(), 'cuda')
    assert 2 * SIZE <= peak < 2.2 * SIZE
