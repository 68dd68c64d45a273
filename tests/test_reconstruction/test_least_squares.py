"""A 1x1 convolution and its norm, against numpy's least squares."""
import copy

import numpy as np
import pytest
import torch
from torch import nn

from mmkdna.reconstruction import least_squares
from mmkdna.reconstruction.least_squares import Moments

RIDGE = 0.03


@pytest.mark.parametrize('stride', [1, 2])
def test_least_squares(stride, monkeypatch):
    monkeypatch.setattr(least_squares, 'RIDGES', (RIDGE, ))
    conv = nn.Conv2d(6, 4, 1, stride=stride, bias=False).double()
    norm = nn.BatchNorm2d(4).double().eval()
    nn.init.uniform_(norm.weight, 0.5, 1)
    nn.init.uniform_(norm.running_var, 0.5, 2)
    mixing = torch.randn(6, 6, dtype=torch.float64)
    moments, rows, targets = Moments(), [], []
    for number in (2, 3):
        features = torch.einsum(
            'oc,nchw->nohw', mixing,
            torch.randn(number, 6, 8, 8, dtype=torch.float64)) + 3
        read = features[:, :, ::stride, ::stride]
        target = torch.einsum(
            'oc,nchw->nohw', torch.randn(
                4, 6, dtype=torch.float64), read) + torch.randn(
                    number, 4, *read.shape[2:], dtype=torch.float64)
        moments.add(features, target, (stride, stride))
        rows.append(read.permute(0, 2, 3, 1).reshape(-1, 6).numpy())
        targets.append(target.permute(0, 2, 3, 1).reshape(-1, 4).numpy())
    with torch.no_grad():
        held = (conv.weight[:, :, 0, 0] *
                (norm.weight /
                 (norm.running_var + norm.eps).sqrt())[:, None]).numpy()
        moments.solve(conv, norm, moments)
    x, y = np.concatenate(rows), np.concatenate(targets)
    centred, wanted = x - x.mean(0), y - y.mean(0)
    # The ridge as rows of its own, which ask for the map there was.
    ridge = np.sqrt(RIDGE * centred.var(0).mean() * len(x)) * np.eye(6)
    solution = np.linalg.lstsq(
        np.concatenate([centred, ridge]),
        np.concatenate([wanted, ridge @ held.T]),
        rcond=None)[0]
    np.testing.assert_allclose(
        conv.weight.detach()[:, :, 0, 0].numpy(), solution.T, rtol=1e-8)
    # Through convolution and norm comes what the regression predicts.
    expected = centred @ solution + y.mean(0)
    with torch.no_grad():
        features = torch.from_numpy(x).t()[None, :, :, None]
        answer = norm(nn.functional.conv2d(features, conv.weight))
    np.testing.assert_allclose(answer[0, :, :, 0].t().numpy(), expected)
    # And the norm's statistics are those of what it reads.
    seen = x @ solution
    np.testing.assert_allclose(norm.running_mean.numpy(), seen.mean(0))
    np.testing.assert_allclose(norm.running_var.numpy(), seen.var(0))


def test_features_that_are_all_zero():
    conv = nn.Conv2d(3, 2, 1, bias=False)
    norm = nn.BatchNorm2d(2).eval()
    moments = Moments()
    moments.add(torch.zeros(2, 3, 4, 4), torch.randn(2, 2, 4, 4), (1, 1))
    with torch.no_grad():
        moments.solve(conv, norm, moments)
        assert norm(conv(torch.zeros(1, 3, 2, 2))).isfinite().all()


def data(number, mixing):
    """Features, and what a noisy linear map makes of them."""
    features = torch.randn(number, 6, 1, 1, dtype=torch.float64)
    noise = torch.randn(number, 4, 1, 1, dtype=torch.float64)
    return features, torch.einsum('oc,nchw->nohw', mixing, features) + noise


def map_of(conv, norm):
    factor = norm.weight / (norm.running_var + norm.eps).sqrt()
    return (conv.weight[:, :, 0, 0] * factor[:, None]).detach()


def test_the_error_is_that_of_what_it_is_told():
    moments = Moments()
    mixing, bias = torch.randn(4, 6).double(), torch.randn(4).double()
    features, target = data(9, torch.randn(4, 6).double())
    moments.add(features, target, (1, 1))
    answer = features[:, :, 0, 0] @ mixing.t() + bias
    expected = (answer - target[:, :, 0, 0]).pow(2).sum(1).mean()
    assert moments.error(mixing, bias) == pytest.approx(float(expected))


def test_what_holds_it_is_chosen_by_others(monkeypatch):
    """By brute force: the best of all ridges on what was not solved for."""
    mixing = torch.randn(4, 6).double()
    maps, errors = [], []
    conv = nn.Conv2d(6, 4, 1, bias=False).double()
    norm = nn.BatchNorm2d(4).double().eval()
    nn.init.constant_(norm.bias, 9)
    few, others = Moments(), Moments()
    few.add(*data(8, mixing), (1, 1))
    seen = data(50, mixing)
    others.add(*seen, (1, 1))
    ridges = least_squares.RIDGES
    for chosen in (*[(ridge, ) for ridge in ridges], ridges):
        monkeypatch.setattr(least_squares, 'RIDGES', chosen)
        one, two = copy.deepcopy((conv, norm))
        with torch.no_grad():
            few.solve(one, two, others)
            answer = two(one(seen[0]))
        maps.append(map_of(one, two))
        errors.append(float((answer - seen[1]).pow(2).sum(1).mean()))
    best = min(range(len(ridges)), key=errors.__getitem__)
    assert len(set(errors[:-1])) > 1
    assert torch.equal(maps[best], maps[-1])


def test_what_is_worse_on_others_is_not_taken():
    conv = nn.Conv2d(6, 4, 1, bias=False).double()
    norm = nn.BatchNorm2d(4).double().eval()
    before = [
        t.clone() for t in (*conv.parameters(), *norm.state_dict().values())
    ]
    right, wrong = Moments(), Moments()
    features = torch.randn(50, 6, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        right.add(features, norm(conv(features)), (1, 1))
        wrong.add(*data(50, torch.randn(4, 6).double()), (1, 1))
        wrong.solve(conv, norm, right)
    after = (*conv.parameters(), *norm.state_dict().values())
    assert all(torch.equal(one, two) for one, two in zip(before, after))
