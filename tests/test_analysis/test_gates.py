"""What gates do on pictures."""
import pytest
import torch
from torch import nn

from mmkdna.analysis.gates import GateSums, watch_gates
from mmkdna.analysis.gates_picture import draw_gates
from tests.utils import children_of, make_kin


def run(model, x):
    model(x)


def statistics(module, *batches):
    return {
        name: sums.statistics(name)
        for name, sums in watch_gates(module, batches, run).items()
    }


@pytest.fixture
def module():
    torch.manual_seed(0)
    module = make_kin(4).eval().double()
    for child in children_of(module).values():
        nn.init.normal_(child.adapter.gate.fc2.weight, std=3)
    return module


def test_they_are_those_of_all_values_at_once(module):
    values = []
    gate = children_of(module)['0.2'].adapter.gate
    gate.register_forward_hook(lambda *args: values.append(args[2].flatten(1)))
    found = statistics(module,
                       *torch.randn(3, 5, 8, 1, 1).double() * 20)['0.2']
    values = torch.cat(values)
    assert len(values) == 15 and found.channels == 8
    expected = dict(
        mean=values.mean(),
        over_channels=values.mean(0).std(correction=0),
        over_pictures=values.var(0, correction=0).mean().sqrt(),
        largest=values.std(0, correction=0).max(),
        dynamic=values.var(0, correction=0).mean() / values.var(correction=0),
        saturated=((values < 0.01) | (values > 0.99)).double().mean())
    for name, value in expected.items():
        assert getattr(found, name) == pytest.approx(float(value), rel=1e-9)
    assert not found.constant


@torch.no_grad()
def test_a_gate_that_is_the_same_for_all_pictures_is_constant(module):
    gate = children_of(module)['0.0'].adapter.gate
    gate.fc2.weight.mul_(1e-6)
    nn.init.normal_(gate.fc2.bias, std=9)
    found = statistics(module, *torch.randn(2, 4, 8, 1, 1).double() * 20)
    assert found['0.0'].constant and not found['0.2'].constant
    assert found['0.0'].dynamic < 1e-9 and found['0.0'].saturated > 0


def test_a_wide_gate_with_one_channel_that_moves_is_not_constant():
    values = torch.full((10, 512, 1, 1), 0.5)
    values[::2, 7] += 0.16
    sums = GateSums()
    sums.add(values)
    found = sums.statistics('wide')
    assert found.over_pictures < 0.01 and not found.constant
    values[::2, 7] -= 0.1
    sums = GateSums()
    sums.add(values)
    assert sums.statistics('narrow').constant


def test_a_child_that_sees_no_picture_is_left_out(module):
    found = watch_gates(module, [torch.randn(2, 8, 6, 6).double()],
                        lambda model, x: model[0][:2](x))
    assert list(found) == ['0.0']


def test_a_model_without_gates():
    with pytest.raises(ValueError, match='this Sequential has no gate'):
        watch_gates(make_kin(2, modulation=['filter']), [], run)


@torch.no_grad()
def test_values_that_overflow_are_refused(module):
    """Where they come first, though gates are finite again behind it."""
    module.float()[0][1].weight.fill_(3e38)
    with pytest.raises(ValueError, match='^0.0, of type KernelDNAConv2d, is'):
        statistics(module, torch.randn(2, 8, 6, 6))
    assert not any(m._forward_hooks for m in module.modules())


def test_nothing_is_left_at_the_model(module):
    statistics(module, torch.randn(2, 8, 6, 6).double())
    assert not any(m._forward_hooks for m in module.modules())


def test_the_picture(module, tmp_path):
    gates = list(statistics(module, torch.randn(2, 8, 6, 6).double()).values())
    draw_gates(gates, tmp_path / 'gates.svg')
    text = (tmp_path / 'gates.svg').read_text()
    assert '<svg' in text
    with pytest.raises(ValueError):
        draw_gates(gates, tmp_path / 'gates.xyz')
    assert [path.name for path in tmp_path.iterdir()] == ['gates.svg']
