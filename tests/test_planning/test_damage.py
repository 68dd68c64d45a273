"""What links cost."""
import re

import pytest
import torch

from mmkdna.forward import forward_dense
from mmkdna.planning import (Measurement, find_blocks, find_candidates,
                             find_curve)
from mmkdna.planning.sharing_copy import sharing_copy
from mmkdna.reconstruction.recording import record
from tests.test_planning.networks import classifier, split, unlinked

TWINS = 'backbone.layer2.1.conv2', 'backbone.layer2.2.conv2'


def measurement(model, steps=2, chosen=r'layer2\.[12]\.conv2', **options):
    """How to measure the links of some convolutions, by their names."""
    candidates = [
        one for one in find_candidates(model, ['backbone'])
        if re.search(chosen, one.child)
    ]
    pictures = split()
    blocks = find_blocks(
        model, candidates,
        lambda: forward_dense(model, pictures.fitted[0].clone()))
    return Measurement(
        model, pictures, forward_dense, blocks, steps=steps,
        **options), candidates


@torch.no_grad()
def twins():
    """A network with two 3x3 that differ in order and factors only."""
    model = unlinked(classifier())
    first, second = (
        model.get_submodule(name.rpartition('.')[0]) for name in TWINS)
    width = len(first.conv2.weight)
    order, inner = torch.randperm(width), torch.randperm(width)
    factors = torch.rand(width, 1, 1, 1) + 0.5
    second.conv1.weight.copy_(second.conv1.weight[inner])
    second.conv2.weight.copy_(factors * first.conv2.weight[order][:, inner])
    return model


def test_a_layer_that_is_there_twice_comes_first():
    how, candidates = measurement(twins())
    found = list(how.links(candidates))
    assert len(found) == len(candidates) == 6
    one = find_curve(found)[0].links[0]
    assert {one.child, one.parent} == set(TWINS)
    assert one.output.error < 1e-9 and one.part_error < 1e-9
    assert one.output.agreement == 1
    # Noise is no twin, nor is another layer.
    assert one.noise.error > 1e-4
    assert all(other.output.error > 1e-4 for other in found
               if {other.child, other.parent} != set(TWINS))


def test_measuring_is_the_same_again_and_changes_nothing():
    model = twins()
    before = {k: v.clone() for k, v in model.state_dict().items()}
    how, candidates = measurement(model, seed=3)
    found = list(how.links(candidates[:3]))
    torch.manual_seed(17)
    assert list(how.links(candidates[:3])) == found
    after = model.state_dict()
    assert list(after) == list(before)
    for key, value in before.items():
        assert torch.equal(after[key], value)
    other, _ = measurement(model, seed=4)
    assert list(other.links(candidates[:3])) != found


@pytest.mark.parametrize('steps', [0, 2])
def test_a_link_that_leaves_no_numbers_spares_the_others(steps, monkeypatch):
    how, candidates = measurement(unlinked(classifier()), steps=steps)
    bad = candidates[0].parent

    def spoiled(plain, links, seed):
        model = sharing_copy(plain, links, seed)
        for link in links['backbone']:
            if link.parent == bad:
                adapter = model.backbone.get_submodule(link.child).adapter
                next(adapter.parameters()).data.fill_(torch.nan)
        return model

    monkeypatch.setattr('mmkdna.planning.damage.sharing_copy', spoiled)
    found = list(how.links(candidates))
    assert len(found) == len(candidates)
    for one in found:
        assert one.is_finite == (one.parent != f'backbone.{bad}')
    with pytest.raises(
            ValueError,
            match=r'^backbone\.layer2\.\S+, at once: .* no finite'):
        how.plan([one for one in found if not one.is_finite][:1], ['backbone'])


@torch.no_grad()
def test_errors_by_the_formula():
    plain = unlinked(classifier())
    how, candidates = measurement(plain)
    other = unlinked(classifier())
    other.backbone.layer2[0].conv1.weight.mul_(1.5)
    x, = how.split.kept
    ours, theirs = other(x).double(), plain(x).double()
    variance = theirs.var(0, unbiased=False).mean()
    damage = how.compare(other)
    assert damage.error == pytest.approx(
        float((ours - theirs).pow(2).mean() / variance), rel=1e-4)
    assert damage.agreement == float(
        (ours.argmax(1) == theirs.argmax(1)).double().mean())
    assert how.compare(plain).error == 0
    # However the pictures are dealt out to batches.
    in_parts = Measurement(plain,
                           how.split._replace(kept=[x[:3], x[3:7], x[7:]]),
                           forward_dense, how.blocks)
    assert in_parts.compare(other).error == pytest.approx(
        damage.error, rel=1e-3)


def test_a_refit_makes_it_no_worse_and_steps_make_it_better():
    how, candidates = measurement(unlinked(classifier()), steps=0)
    links = list(how.links(candidates[:1]))
    together = how.plan(links, ['backbone'])
    # A plan of one link is that link.
    assert together.refitted == links[0].output
    assert together.refitted.error < together.at_once.error
    trained, _ = measurement(how.plain, steps=30)
    assert next(iter(trained.links(
        candidates[:1]))).part_error < links[0].part_error


def test_links_are_made_together(monkeypatch):
    how, candidates = measurement(unlinked(classifier()), steps=0)
    found = list(how.links(candidates))
    step = find_curve(found)[-1]
    assert len(step.links) == 2
    recorded = []

    def note(model, plain, part, *args):
        recorded.append((model, part.name))
        return record(model, plain, part, *args)

    monkeypatch.setattr('mmkdna.planning.damage.record', note)
    together = how.plan(step.links, ['backbone'])
    assert 0 < together.refitted.error < together.at_once.error
    # Each part is fitted on what the one before gives by then.
    models, names = zip(*recorded[::3])
    assert names == ('backbone.layer2.1', 'backbone.layer2.2')
    assert models[0] is models[1] is not how.plain


def test_a_block_is_refitted_or_what_there_is():
    how, _ = measurement(unlinked(classifier()), chosen='')
    assert {part.name
            for part in how.blocks.values()} == {
                f'backbone.layer{stage}.{block}'
                for stage, blocks in ((1, 3), (2, 4))
                for block in range(blocks)
            }
    names = [part.name for part in how.blocks.values()]
    assert names == sorted(names)
    # In an inverted residual a module around a layer runs alone, too.
    mobile = dict(type='MobileNetV2', widen_factor=0.5)
    how, _ = measurement(unlinked(classifier(mobile, 1280)), chosen='layer3')
    assert {part.name
            for part in how.blocks.values()
            } == {f'backbone.layer3.{block}'
                  for block in range(3)}
