"""Who shares with whom, in a table."""
from torch import nn

from mmkdna import link_kernels, sharing_table
from tests.utils import make_kin, make_module

SAME = (8, 8, 3)


def linked(convs, **options):
    module = make_module(convs, **options)
    link_kernels(module)
    return module


def numbered(number, stage='layer1'):
    return {f'{stage}.{i}': SAME for i in range(number)}


def test_sharing_table():
    module = linked({'layer1.0': SAME, 'layer1.1': SAME, 'conv': (8, 4, 1)})
    table = sharing_table(module)
    adapter = 8 + 9 + (8 * 2 + 2 * 2 + 2 * 8 + 8)
    kernel, bias = 8 * 8 * 9, 8
    assert [tuple(row) for row in table] == [
        ('layer1.0', 'child', 'layer1.1', (8, 8, 3, 3), adapter + bias,
         kernel - adapter),
        ('layer1.1', 'parent', None, (8, 8, 3, 3), kernel + bias, 0),
        ('conv', 'plain', None, (4, 8, 1, 1), 36, 0),
    ]
    assert table[0].role == 'child' and table[0].parent == 'layer1.1'
    assert table.children == 1
    assert table.saved_parameters == kernel - adapter
    stock = sum(p.numel() for p in make_module({
        'layer1.0': SAME,
        'layer1.1': SAME,
        'conv': (8, 4, 1)
    }).parameters())
    assert stock - table.saved_parameters == sum(p.numel()
                                                 for p in module.parameters())


def test_a_table_names_parents_in_the_whole_model():
    model = nn.ModuleDict(dict(backbone=linked(numbered(2))))
    row, _ = sharing_table(model)
    assert (row.name, row.parent) == ('backbone.layer1.0', 'backbone.layer1.1')


def test_a_printed_table_is_aligned():
    lines = str(sharing_table(make_kin(3, 64))).splitlines()
    assert lines[0].split('  ')[0] == 'name'
    assert 'saved parameters' in lines[0]
    assert 'child' in lines[2] and '64x64x3x3' in lines[2]
    assert lines[-1].startswith('3 convolutions') and '2 children' in lines[-1]
    assert '36,928' in lines[4]  # the parent, with its bias
    assert len({len(line) for line in lines}) == 1


def test_a_module_without_our_convs_has_an_empty_table():
    assert sharing_table(nn.Conv2d(8, 8, 3)) == []
