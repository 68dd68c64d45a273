"""Pictures in several views."""
import pytest
import torch
from torch import nn

from mmkdna.reconstruction.batches import LEAST, Views


def grid(height=40, width=56):
    """Four pictures of which each place says where it is, and in which."""
    rows = torch.arange(float(height))[:, None].expand(height, width)
    columns = torch.arange(float(width)).expand(height, width)
    return torch.stack([
        torch.stack([rows, columns,
                     torch.full_like(rows, number)]) for number in range(4)
    ])


def test_each_batch_as_it_is_and_then_crops_of_it():
    batches = [grid(), grid() + 100]
    views = Views(batches, 3, seed=0)
    assert len(views) == len(list(views)) == 6
    for number, batch in enumerate(views):
        assert batch.shape == grid().shape
        start = 100. * (number % 2)
        # Of the same pictures in the same order, and of nothing else.
        assert torch.allclose(batch[:, 2, 0, 0], start + torch.arange(4.))
        assert batch.min() > start - 0.01 and batch[:, 1].max() < start + 55.01
        assert torch.equal(batch, batches[number % 2]) == (number < 2)
    # None is there twice.
    assert len({batch.sum().item() for batch in views}) == 6


@pytest.mark.parametrize('seed', [0, 1])
def test_crops_are_parts_of_half_the_sides_or_more(seed):
    batch = grid()
    mirrored = []
    parts = []
    for crop in torch.cat(list(Views([batch], 11, seed))[1:]):
        (top, bottom), (left, right) = ((crop[0, 0, 0], crop[0, -1, 0]),
                                        (crop[1, 0, 0], crop[1, 0, -1]))
        mirrored.append(bool(left > right))
        left, right = sorted((left, right))
        height, width = bottom - top + 1, right - left + 1
        parts.append(float(height / 40))
        assert LEAST * 40 <= height + 0.5 and height <= 40
        # Both sides by the same factor, but for whole pixels.
        assert abs(height / 40 - width / 56) < 0.03
        # That is what it is of, in the size of the picture.
        box = [int(round(float(v))) for v in (top, bottom, left, right)]
        cut = batch[:1, :2, box[0]:box[1] + 1, box[2]:box[3] + 1]
        expected = nn.functional.interpolate(cut, (40, 56), mode='bilinear')
        found = crop[None, :2].flip(-1) if mirrored[-1] else crop[None, :2]
        torch.testing.assert_close(found, expected)
    assert 10 < sum(mirrored) < 30 and max(parts) - min(parts) > 0.3


def test_the_same_each_time_and_for_a_seed():
    views = [Views([grid()], 2, seed) for seed in (0, 0, 1)]
    assert torch.equal(views[0][1], views[0][1])
    assert torch.equal(views[0][1], views[1][1])
    assert not torch.equal(views[0][1], views[2][1])
