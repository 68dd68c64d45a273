"""Markdown tables."""
from mmkdna.analysis.tables import markdown_table


def test_empty_cells_are_alike_wherever_they_are():
    rows = [(None, None, None), (1, None, None), (None, 0, ''), (1, 2, 3)]
    assert markdown_table('abc', rows).splitlines() == [
        '| a | b | c |', '| --- | --- | --- |', '| | | |', '| 1 | | |',
        '| | 0 |  |', '| 1 | 2 | 3 |'
    ]
