"""Weights in the key layout of another host library."""
import pytest
import torch

from tests.test_pretrained.test_plain import (HOSTS, answer_of, build, lively,
                                              load)

pytest.importorskip('mmdet')
pytest.importorskip('mmpretrain')
pytest.importorskip('mmseg')


def deep_stem(host, **arguments):
    """A KernelDNAResNet-18 with a stem of three convolutions."""
    return build(
        'KernelDNAResNet',
        host,
        depth=18,
        base_channels=16,
        stem_channels=16,
        style='pytorch',
        deep_stem=True,
        **arguments)


@pytest.mark.parametrize('sharing_stages', [(), (3, 4)])
@pytest.mark.parametrize('ours', HOSTS)
@pytest.mark.parametrize('theirs', HOSTS)
def test_deep_stem(ours, theirs, sharing_stages):
    given = lively(deep_stem(theirs, sharing_stages=sharing_stages))
    taken = deep_stem(ours, sharing_stages=sharing_stages)
    load(taken, given.state_dict(), True)
    x = torch.randn(1, 3, 48, 48)
    assert torch.equal(answer_of(taken, x), answer_of(given, x))
