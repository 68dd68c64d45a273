"""The picture says what the table says."""
import re
from xml.etree import ElementTree

import pytest
from matplotlib import rc_context
from matplotlib.colors import to_hex
from PIL import Image
from torch import nn

from mmkdna import link_kernels, sharing_table
from mmkdna.analysis import draw_sharing
from mmkdna.analysis.graph import COLORS
from tests.utils import make_module


@pytest.fixture
def model():
    """Two stages, of which the first shares, and a plain convolution."""
    convs = {f'layer1.{i}.conv2': (8, 8, 3) for i in range(3)}
    model = make_module({**convs, 'layer2.0.conv2': (8, 16, 3)})
    link_kernels(model)
    model.stem = nn.Conv2d(3, 8, 7)
    return model


def boxes_and_arrows(text):
    """How many boxes of each color, legend aside, and arrows an SVG has."""
    fills = re.findall(r'fill: (#[0-9a-f]{6})', text)
    boxes = {
        role: fills.count(to_hex(color)) - 1
        for role, color in COLORS.items()
    }
    # An arrow's line alone is not filled.
    return boxes, len(re.findall('fill: none; stroke: #444444', text))


def test_svg(model, tmp_path):
    draw_sharing(model, tmp_path / 'graph.svg')
    boxes, arrows = boxes_and_arrows((tmp_path / 'graph.svg').read_text())
    roles = [row.role for row in sharing_table(model)]
    assert boxes == dict(
        child=roles.count('child'),
        parent=roles.count('parent'),
        plain=roles.count('plain') + 1)
    assert arrows == roles.count('child') == 2


def test_a_convolution_is_labelled_by_its_name_in_its_row(model, tmp_path):
    model = nn.ModuleDict(dict(backbone=model, conv1=nn.Conv2d(3, 8, 7)))
    # With its text as text, not as outlines.
    with rc_context({'svg.fonttype': 'none'}):
        draw_sharing(model, tmp_path / 'graph.svg')
    texts = [
        text.text for text in ElementTree.parse(tmp_path / 'graph.svg').iter(
            '{http://www.w3.org/2000/svg}text')
    ]
    # A row has its stage, if any, then a size and a name per convolution.
    assert texts[:15] == [
        'backbone.layer1', '3×3', '0.conv2', '3×3', '1.conv2', '3×3',
        '2.conv2', 'backbone.layer2', '3×3', '0.conv2', 'backbone', '7×7',
        'stem', '7×7', 'conv1'
    ]


def test_kin_of_several_stages(tmp_path):
    convs = {f'layer{i}.conv': (8, 8, 3) for i in range(4)}
    model = make_module(convs, stage_level=0)
    link_kernels(model)
    draw_sharing(model, tmp_path / 'graph.svg')
    boxes, arrows = boxes_and_arrows((tmp_path / 'graph.svg').read_text())
    assert (boxes, arrows) == (dict(child=2, parent=2, plain=0), 2)


def test_a_convolution_that_shares_with_itself_has_no_arrow(tmp_path):
    convs = {f'layer1.{i}.conv': (8, 8, 3) for i in range(2)}
    model = make_module(convs, share=False)
    link_kernels(model)
    draw_sharing(model, tmp_path / 'graph.svg')
    boxes, arrows = boxes_and_arrows((tmp_path / 'graph.svg').read_text())
    assert (boxes['child'], arrows) == (2, 0)


def test_png(model, tmp_path):
    draw_sharing(model, tmp_path / 'graph.png')
    with Image.open(tmp_path / 'graph.png') as image:
        assert min(image.size) > 100
