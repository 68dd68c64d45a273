"""The rooms of the package import each other one way."""
import ast
import re

import pytest

from tests.runs import ROOT

PACKAGE = ROOT / 'mmkdna'
# The package's face shows all rooms, and the version is in none.
NO_ROOMS = ('__init__', 'version')


def listed():
    """The rooms in the order of CONTRIBUTING.md."""
    text = (ROOT / 'CONTRIBUTING.md').read_text()
    return re.findall(r'^\d+\. `(\w+)`: ', text, re.MULTILINE)


def files():
    """Every file of the package, and the room that it is of."""
    found = []
    for path in sorted(PACKAGE.rglob('*.py')):
        parts = path.relative_to(PACKAGE).with_suffix('').parts
        if '.mim' not in parts and parts[0] not in NO_ROOMS:
            found.append((path, parts[0]))
    return found


def imported(text, depth):
    """The rooms that a file imports.

    Args:
        text (str): The file.
        depth (int): Folders between it and the package.

    Returns:
        set[str]: Their names; 'mmkdna' for the package itself.
    """
    rooms = set()
    for node in ast.walk(ast.parse(text)):
        names = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            modules = [node.module] if node.module else [
                alias.name for alias in node.names
            ]
            if node.level == depth + 1:
                names = [f'mmkdna.{module}' for module in modules]
            elif not node.level:
                names = [node.module]
                if node.module == 'mmkdna':
                    names = [f'mmkdna.{alias.name}' for alias in node.names]
        for name in names:
            if name.split('.')[0] == 'mmkdna':
                rooms.add('.'.join(name.split('.')[1:2]) or 'mmkdna')
    return rooms


def against(order, room, rooms):
    """Those of the imported rooms that do not stand before a room."""
    before = order[:order.index(room)]
    return sorted(rooms - {room, 'version'} - set(before))


def test_every_room_is_listed_once():
    assert sorted(listed()) == sorted({room for _, room in files()})


@pytest.mark.parametrize(
    'path, room',
    files(),
    ids=[path.relative_to(PACKAGE).as_posix() for path, _ in files()])
def test_a_room_imports_those_before_it(path, room):
    depth = len(path.relative_to(PACKAGE).parts) - 1
    rooms = imported(path.read_text(), depth)
    assert against(listed(), room, rooms) == []


@pytest.mark.parametrize('text, depth', [
    ('from .unit import link_kernels', 0),
    ('from ..unit import link_kernels', 1),
    ('from . import unit', 0),
    ('def late():\n    from mmkdna.unit import link_kernels', 0),
    ('from mmkdna import unit', 1),
    ('import mmkdna.unit', 1),
])
def test_an_arrow_against_the_order_is_seen(text, depth):
    assert imported(text, depth) == {'unit'}
    assert against(listed(), 'conv', {'unit'}) == ['unit']
    assert against(listed(), 'registry', {'unit'}) == []
