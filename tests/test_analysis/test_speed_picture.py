"""The bars say what the table says."""
import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
from matplotlib import rc_context
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from mmkdna.analysis.speed_picture import COLORS, draw_speeds
from mmkdna.analysis.speed_rows import compare_speeds

SPEEDS = {
    ('a', 'plain'): [10., 10.],
    ('a', 'fused'): [20., 22.],
    ('a', 'trained'): [9., 11.],
    ('b', 'plain'): [5., 5.],
    ('b', 'ODConv'): [1., 1.1]
}


@pytest.fixture
def rows():
    memory = {key: (1, None) for key in SPEEDS}
    return [
        row for batch in (1, 8)
        for row in compare_speeds(SPEEDS, memory, 'eval', batch)
    ]


def test_bars(rows, tmp_path):
    # With its text as text, not as outlines.
    with rc_context({'svg.fonttype': 'none'}):
        draw_speeds(rows, tmp_path / 'speed.svg')
    text = (tmp_path / 'speed.svg').read_text()
    fills = re.findall(r'fill: (#[0-9a-f]{6})', text)
    assert {
        kind: fills.count(to_hex(c))
        for kind, c in COLORS.items()
    } == dict(
        reference=4, certain=4, uncertain=2)
    words = ' '.join(''.join(node.itertext()) for node in ElementTree.parse(
        tmp_path / 'speed.svg').iter('{http://www.w3.org/2000/svg}text'))
    for word, count in (('plain', 4), ('fused', 2), ('ODConv', 2),
                        ('eval, batch 1', 2), ('eval, batch 8', 2)):
        assert words.count(word) == count


def test_a_picture_is_written_whole_or_not_at_all(rows, tmp_path, monkeypatch):
    draw_speeds(rows, tmp_path / 'deep' / 'speed.svg')
    path = tmp_path / 'deep' / 'speed.svg'
    before = path.read_bytes()
    with pytest.raises(ValueError, match='xyz'):
        draw_speeds(rows, path.with_suffix('.xyz'))

    def stopped(figure, file, **kwargs):
        with open(file, 'wb') if isinstance(file, Path) else file as opened:
            opened.write(b'half')
        raise KeyboardInterrupt

    monkeypatch.setattr(Figure, 'savefig', stopped)
    with pytest.raises(KeyboardInterrupt):
        draw_speeds(rows, path)
    assert list(path.parent.iterdir()) == [path]
    assert path.read_bytes() == before
