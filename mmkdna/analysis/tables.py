"""Figures as Markdown."""
from __future__ import annotations
from typing import Any, Iterable, Sequence


def markdown_table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """Write a Markdown table.

    Args:
        head (Sequence[str]): Titles of the columns.
        rows (Iterable[Sequence]): Cells of the rows; ``None`` is an empty one.

    Returns:
        str: The table, with a line per row.
    """
    lines = [head, ['---'] * len(head), *rows]
    return '\n'.join('|' + ''.join(' |' if c is None else f' {c} |'
                                   for c in line) for line in lines)


def millions(number: float) -> str:
    """Write a number of parameters as 'x M', rounded to two digits."""
    return f'{number / 1e6:.2f} M'


def billions(number: float) -> str:
    """Write a number of FLOPs as 'x G', rounded to two digits."""
    return f'{number / 1e9:.2f} G'
