"""What goes into a part of a network, and what is to come out, on disk."""
import copy

import pytest
import torch

from mmkdna.reconstruction.parts import Part
from mmkdna.reconstruction.recording import Recording, record, record_next
from tests.test_reconstruction.networks import forward, networks, pictures


@pytest.fixture(scope='module')
def both():
    return networks('bottleneck')


def test_it_is_what_the_networks_compute(both, tmp_path):
    theirs, ours = both
    ours = copy.deepcopy(ours)
    with torch.no_grad():
        ours.layer1[0].conv1.weight.mul_(2)
    batches = [pictures(2) for _ in range(4)]
    recording = record(ours, theirs, Part('layer3', (), 1, False), batches,
                       forward, tmp_path / 'fitted')
    assert len(recording) == 4
    for call, batch in zip(recording, batches):
        for network, x in ((ours, call.x), (theirs, call.plain_x)):
            with torch.no_grad():
                y = network.maxpool(
                    network.relu(network.norm1(network.conv1(batch))))
                torch.testing.assert_close(x,
                                           network.layer2(network.layer1(y)))
        with torch.no_grad():
            torch.testing.assert_close(call.target,
                                       theirs.layer3(call.plain_x))
    assert not any(
        m._forward_hooks or m._forward_pre_hooks for network in (ours, theirs)
        for m in network.modules())


def test_from_one_part_to_the_next(both, tmp_path):
    theirs, ours = both
    ours = copy.deepcopy(ours)
    with torch.no_grad():
        ours.layer1[0].conv1.weight.mul_(2)
    batches = [pictures(2) for _ in range(2)]
    first = record(ours, theirs, Part('layer3', (), 1, False), batches,
                   forward, tmp_path / 'first')
    # What it gives by now.
    with torch.no_grad():
        ours.layer3[0].conv1.weight.mul_(2)
    part = Part('layer4', (), 1, True)
    expected = record(ours, theirs, part, batches, forward,
                      tmp_path / 'expected')
    found = record_next(first, ours.layer3, theirs.layer4, part,
                        tmp_path / 'found')
    for one, other in zip(found, expected):
        for tensor, value in zip(one, other):
            torch.testing.assert_close(tensor, value)
    assert len(found) == len(expected) == 2


def test_every_call_of_a_forward(tmp_path):
    theirs, ours = networks('head')
    recording = record(ours, theirs, Part('cls_convs.1', (), 3, False),
                       [pictures(2, 'head')], forward, tmp_path / 'fitted')
    assert [call.x.shape[-1] for call in recording] == [24, 12, 6]
    assert len(recording.batch(0)) == 3


def test_what_runs_behind_the_part_does_not_run(both, tmp_path):
    theirs, ours = both
    ran = []
    handle = theirs.layer4.register_forward_hook(lambda *_: ran.append(1))
    record(ours, theirs, Part('layer3', (), 1, False), [pictures(2)], forward,
           tmp_path / 'fitted')
    handle.remove()
    assert not ran


def test_the_variance_is_that_of_the_targets(tmp_path):
    targets = torch.randn(3, 2, 5, 4, 4, dtype=torch.float64) * 3 + 1
    for i, target in enumerate(targets):
        torch.save([(target, target, target)], tmp_path / f'{i}.pt')
    recording = Recording([tmp_path / f'{i}.pt' for i in range(3)],
                          torch.device('cpu'))
    flat = targets.transpose(0, 2).flatten(1).numpy()
    assert recording.variance() == pytest.approx(flat.var(1).mean())


@pytest.mark.parametrize('network, said', [
    (0, 'its output in the plain network'),
    (1, 'its input in the sharing network'),
])
def test_what_is_no_number(both, network, said, tmp_path):
    networks = [copy.deepcopy(net) for net in both]
    module = networks[network]
    module = module.layer3[0] if network == 0 else module.layer2[0]
    with torch.no_grad():
        module.conv1.weight[0, 0] = float('nan')
    theirs, ours = networks
    with pytest.raises(ValueError, match=f'layer3: {said} .* no finite'):
        record(ours, theirs, Part('layer3', (), 1, False),
               [pictures(2) for _ in range(3)], forward, tmp_path / 'fitted')
