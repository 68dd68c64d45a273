"""Links as a config writes them."""
from ast import literal_eval

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mmkdna import link_kernels
from mmkdna.planning.entries import GLUE, entries_text
from tests.utils import make_module


def entries(links):
    return literal_eval('{%s}' % entries_text(links).replace(GLUE, ' '))


def linked(links, given):
    """The links that entries make among the convolutions of others."""
    names = [*links, *links.values(), *(f'{name}x' for name in links)]
    module = make_module(dict.fromkeys(names, (8, 8, 1)), links=given)
    return dict(link_kernels(module))


@pytest.mark.parametrize('links, expected', [
    ({
        'a.0': 'a.1'
    }, {
        'a.0': 'a.1'
    }),
    ({
        'a.0': 'a.2',
        'a.1': 'a.2'
    }, {
        r'a\.(0|1)': 'a.2'
    }),
    ({
        'layer3.0.conv1': 'layer3.1.conv2',
        'layer4.0.conv1': 'layer4.1.conv2'
    }, {
        r'layer(3|4)\.0\.conv1': r'layer\1.1.conv2'
    }),
    ({
        'a.layer1.0': 'a.layer1.1',
        'a.layer10.0': 'a.layer10.1'
    }, {
        r'a\.layer(1|10)\.0': r'a.layer\1.1'
    }),
    ({
        'a.0.x': 'a.0.y',
        'a.1.x': 'a.1.y',
        'b.0': 'b.1'
    }, {
        r'a\.(0|1)\.x': r'a.\1.y',
        'b.0': 'b.1'
    }),
])
def test_entries(links, expected):
    assert entries(links) == expected
    assert linked(links, entries(links)) == links


PARTS = st.sampled_from(['layer1', 'layer11', '1', '11', 'a+', 'conv'])
NAMES = st.lists(PARTS, min_size=1, max_size=3).map('.'.join)


@given(st.lists(NAMES, unique=True, min_size=2, max_size=12), st.data())
def test_entries_make_the_links_that_are_given(names, data):
    names = [
        name for name in names
        if not any(other.startswith(f'{name}.') for other in names)
    ]
    if len(names) < 2:
        return
    half = data.draw(st.integers(1, len(names) - 1))
    parents = st.sampled_from(names[half:])
    links = {child: data.draw(parents) for child in names[:half]}
    written = entries(links)
    assert len(written) <= len(links)
    assert linked(links, written) == links
