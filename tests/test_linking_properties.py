"""What is true of links in any nesting of modules."""
import json
import os
import subprocess
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from mmkdna import KernelDNAConv2d, link_kernels, sharing_table
from mmkdna.sharing import first_names, named_convs
from tests.nested import build, convs_of, parents
from tests.runs import ROOT

pytestmark = pytest.mark.filterwarnings('ignore:KernelDNA')
CONVS = st.tuples(
    st.just('conv'), st.sampled_from((4, 8)), st.sampled_from((1, 3)))
AGAIN = st.tuples(st.just('again'), st.integers(0, 5))
MODULES = st.recursive(
    st.one_of(CONVS, CONVS, CONVS, AGAIN),
    lambda part: st.builds(lambda kind, parts: (kind, *parts),
                           st.sampled_from(('sequential', 'list', 'unit')),
                           st.lists(part, min_size=1, max_size=5)),
    max_leaves=14)
seen = []


def parameters_of(conv):
    """How many a convolution owns, from the method's formulas."""
    channels, size = conv.in_channels, conv.kernel_size[0]
    if conv.role != 'child':
        return channels * channels * size * size + channels
    reduced = channels // 4
    gate = channels * reduced + 2 * reduced + reduced * channels + channels
    return channels + channels + (size * size if size > 1 else 0) + gate


def build_or_refuse(description):
    """Build it, unless a unit inside has a child of another one's parent."""
    try:
        return build(description)
    except ValueError as error:
        assert 'outside of that module' in str(error)
        assert "'unit'" in repr(description) and "'again'" in repr(description)
        return None, []


@settings(max_examples=80)
@given(MODULES)
def test_any_nesting(description):
    module, units = build_or_refuse(description)
    if module is None:
        return
    convs = convs_of(module)
    seen.append(description)
    for conv in convs:
        assert conv.linked
        assert (conv.role == 'child') == (conv.parent is not None)
        if conv.parent is not None:
            assert conv.parent in convs and conv.parent.role == 'parent'
            assert conv.parent is not conv
            assert conv.parent.weight_shape == conv.weight_shape
            assert 'weight' not in dict(conv.named_parameters())
        assert conv.num_children == sum(c.parent is conv for c in convs)
    # A convolution in two units belongs to the one that was linked first.
    taken = set()
    for unit in units:
        for conv in unit - taken:
            assert conv.parent is None or conv.parent in unit
        taken |= unit
    outside = convs - taken
    assert all(conv.parent is None or conv.parent in outside
               for conv in outside)
    expected = sum(map(parameters_of, convs))
    assert sum(p.numel() for p in module.parameters()) == expected
    table = sharing_table(module)
    assert sum(row.own_parameters for row in table) == expected
    assert len(table) == len(convs)
    assert set(first_names(module).values()) <= set(
        dict(module.named_modules()))
    assert link_kernels(module) == []


@settings(max_examples=40)
@given(MODULES, st.data())
def test_a_convolution_that_is_replaced_after_linking(description, data):
    module, _ = build_or_refuse(description)
    convs = {} if module is None else named_convs(module)
    if not convs:
        return
    name = data.draw(st.sampled_from(sorted(convs)), 'replaced')
    old = convs[name]
    for path in [
            name, *(n for n, f in first_names(module).items() if f == name)
    ]:
        around, _, last = path.rpartition('.')
        setattr(
            module.get_submodule(around), last,
            KernelDNAConv2d(old.in_channels, old.out_channels,
                            old.kernel_size))
    if old.role == 'parent':
        for read in (named_convs, link_kernels, sharing_table):
            with pytest.raises(ValueError, match='outside of that module'):
                read(module)
        return
    before = {n: p for n, p in parents(module).items()}
    link_kernels(module)
    after = parents(module)
    assert {n: after[n] for n in before} == before
    assert all(conv.linked for conv in convs_of(module))


def test_another_process_links_the_same():
    modules = seen[::3]
    assert len(modules) > 20
    done = subprocess.run([sys.executable, '-m', 'tests.nested'],
                          cwd=ROOT,
                          env=dict(
                              os.environ,
                              PYTHONHASHSEED='5',
                              PYTHONPATH=os.pathsep.join([
                                  str(ROOT),
                                  os.environ.get('PYTHONPATH', '')
                              ])),
                          input=json.dumps(modules),
                          text=True,
                          stdout=subprocess.PIPE,
                          check=True)
    expected = [parents(build(each)[0]) for each in modules]
    assert any(expected)
    assert json.loads(done.stdout.splitlines()[-1]) == expected


def test_a_head_shared_by_two_models_is_linked_once():
    head = nn.Sequential(*[KernelDNAConv2d(8, 8, 3) for _ in range(2)])
    models = [
        nn.Sequential(nn.Sequential(KernelDNAConv2d(8, 8, 3)), head)
        for _ in range(2)
    ]
    assert len(link_kernels(models[0])) == 1
    assert link_kernels(models[1]) == []
    assert parents(models[0]) == parents(models[1]) == {'1.0': '1.1'}
