"""Links as a config writes them, in as few entries as patterns allow."""
from __future__ import annotations
import re
import textwrap
from collections import defaultdict
from os.path import commonprefix
from typing import Mapping, NamedTuple, Sequence

# Characters of a piece of a pattern, and of an entry that stays in a line.
PIECE = 40
ENTRY = 60
# A space at which no line ends.
GLUE = '\xa0'


class _Form(NamedTuple):
    """What links have in common that one entry can stand for.

    Attributes:
        place (int): Which part of the names is the same in a child and its
            parent, and differs between the links; -1 where the parent is one
            and the same.
        child (tuple[str]): Parts of the child's name, '' in that place; none
            where the parent is the same.
        parent (tuple[str]): Parts of the parent's name, as above.
    """
    place: int
    child: tuple[str, ...]
    parent: tuple[str, ...]


def entries_text(links: Mapping[str, str]) -> str:
    """Write links as the entries of a dict.

    Children of one parent become one pattern, and so do links that differ in
    one part of the names only, as ``{r'layer(3|4)\\.0\\.conv2':
    r'layer\\1.1.conv2'}``.

    Args:
        links (dict[str, str]): Children and their parents.

    Returns:
        str: Python, to be wrapped at spaces only.
    """
    written: dict[str, str] = {}
    left = dict(links)
    while left:
        form, children = _largest(left)
        written[children[0]] = _entry(form, children, left)
        for child in children:
            del left[child]
    return ', '.join(written[child] for child in links if child in written)


def _largest(links: Mapping[str, str]) -> tuple[_Form, list[str]]:
    """Find the form that most links have; of two, one with the same parent."""
    found: dict[_Form, list[str]] = defaultdict(list)
    for child, parent in links.items():
        ours, theirs = child.split('.'), parent.split('.')
        found[_Form(-1, (), (*theirs, ))].append(child)
        for place, parts in enumerate(zip(ours, theirs)):
            if len(set(parts)) == 1:
                without = [(*names[:place], '', *names[place + 1:])
                           for names in (ours, theirs)]
                found[_Form(place, *without)].append(child)
    return max(
        found.items(), key=lambda item: (len(item[1]), item[0].place < 0))


def _entry(form: _Form, children: Sequence[str], links: Mapping[str,
                                                                str]) -> str:
    """Write an entry."""
    if len(children) == 1:
        return f'{children[0]!r}:{GLUE}{links[children[0]]!r}'
    if form.place < 0:
        return f'{_in_pieces(_pattern(children))}:{GLUE}{links[children[0]]!r}'
    parts = [name.split('.')[form.place] for name in children]
    # Numbers stay as a whole.
    start = re.sub(r'\d+$', '', commonprefix(parts))
    group = '|'.join(re.escape(part[len(start):]) for part in parts)
    child, parent = ([*map(re.escape, form.child)], list(form.parent))
    child[form.place] = f'{re.escape(start)}({group})'
    parent[form.place] = rf'{start}\1'
    key, value = _in_pieces(r'\.'.join(child)), f"r'{'.'.join(parent)}'"
    # One that fills a line may end it behind the colon.
    return f'{key}:{GLUE if len(key + value) < ENTRY else " "}{value}'


def _in_pieces(pattern: str) -> str:
    """A pattern, in pieces of a line at most."""
    pieces = textwrap.wrap(
        pattern.replace('|', '| '),
        PIECE,
        break_long_words=False,
        break_on_hyphens=False)
    return ' '.join(f"r'{piece.replace(' ', '')}'" for piece in pieces)


def _pattern(names: Sequence[str]) -> str:
    """A regular expression that matches some names and nothing else."""
    parts = [name.split('.') for name in names]
    # A part at least remains of each name.
    start = commonprefix([name[:-1] for name in parts])
    rest = [name[len(start):] for name in parts]
    end = commonprefix([name[:0:-1] for name in rest])[::-1]
    inner = '|'.join(
        re.escape('.'.join(name[:len(name) - len(end)])) for name in rest)
    return r'\.'.join(
        [*map(re.escape, start), f'({inner})', *map(re.escape, end)])
