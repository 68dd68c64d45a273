"""What the heat maps show of each two convolutions."""
import numpy as np
import pytest
from matplotlib.colors import to_rgba

from mmkdna.similarity import KernelPair, Similarity
from mmkdna.similarity.heat_maps import (cosine_figure, distance_figure,
                                         outputs_figure)

RAN = ['stem', 'a.1', 'a.2', 'b.1']
# Of b, one convolution does not run on whole pictures.
KIN = ['a.1', 'a.2', 'b.1', 'b.2']


@pytest.fixture
def similarity():
    pairs = [
        KernelPair('a.1', 'a.2', 'a', 0.01, 0.96, 0.98),
        KernelPair('a.2', 'a.1', 'a', 0.01, 0.99, 0.98),
        KernelPair('b.1', 'b.2', 'b', -0.04, 0.97, 0.97),
        KernelPair('b.2', 'b.1', 'b', -0.04, 0.99, 0.99)
    ]
    cka = np.eye(4).tolist()
    cka[0] = [None] * 4
    return Similarity(RAN, ['', 'a', 'a', 'b'], cka, pairs, 8)


def shown(figure):
    """The map, its values, and what is written at its bar of colours."""
    axes, bar = figure.axes
    image, = axes.get_images()
    return axes, image, bar.get_ylabel()


def labels(axis):
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize('draw, values, most, said', [
    (distance_figure, [-0.02, 0.01, 0, 0
                       ], 0.02, 'distance less that of noise, -0.02 to 0.02'),
    (cosine_figure, [0.01, 0.01, -0.04, -0.04], 0.04, 'cosine, -0.04 to 0.04'),
])
def test_kernels_that_could_be_one(similarity, draw, values, most, said):
    axes, image, label = shown(draw(similarity))
    assert labels(axes.xaxis) == labels(axes.yaxis) == KIN
    found = image.get_array()
    # A row is a child, in whose column its parent stands.
    assert [found[0, 1], found[1, 0], found[2, 3],
            found[3, 2]] == pytest.approx(values)
    assert found.mask.sum() == 16 - 4
    # As wide as the values are, with what is neither in the middle.
    assert image.get_clim() == pytest.approx((-most, most))
    assert label == said


def test_red_is_alike(similarity):
    for draw, alike in ((distance_figure, -0.02), (cosine_figure, 0.04)):
        _, image, _ = shown(draw(similarity))
        red, _, blue, _ = image.to_rgba(np.array([alike]))[0]
        assert red > blue


def test_outputs(similarity):
    axes, image, label = shown(outputs_figure(similarity))
    assert labels(axes.xaxis) == labels(axes.yaxis) == RAN
    assert image.get_array().mask.sum() == 4
    assert image.get_clim() == (0, 1) and label == 'CKA, 0 to 1'


def test_stages_have_dark_lines_and_names(similarity):
    axes, _, _ = shown(distance_figure(similarity))
    assert [line.get_color() for line in axes.lines] == ['black'] * 2
    assert {tuple(line.get_xdata())
            for line in axes.lines} == {(0, 1), (1.5, 1.5)}
    top, right = axes.child_axes
    assert labels(top.xaxis) == labels(right.yaxis) == ['a', 'b']
    assert top.get_xticks().tolist() == [0.5, 2.5]


@pytest.mark.parametrize('draw',
                         [outputs_figure, distance_figure, cosine_figure])
def test_what_has_no_value_looks_like_none(similarity, draw):
    axes, image, _ = shown(draw(similarity))
    assert axes.patch.get_hatch()
    color = np.array(to_rgba(axes.get_facecolor())[:3])
    least, most = image.get_clim()
    colors = image.to_rgba(np.linspace(least, most, 100))[:, :3]
    assert np.abs(colors - color).max(1).min() > 0.1


def test_kernels_without_a_difference_have_a_scale(similarity):
    pairs = [
        KernelPair(*names, 'a', 0., 1., 1.)
        for names in (('a.1', 'a.2'), ('a.2', 'a.1'))
    ]
    _, image, _ = shown(cosine_figure(Similarity([], [], [], pairs, 8)))
    assert image.get_clim() == (-1, 1)
