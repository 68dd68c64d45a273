"""What docs/transformations.md says is what the code does."""
import pytest
import torch

from tests.test_transformations import matrix
from tests.test_transformations.models import CASES
from tests.test_transformations.transformations import (TABLE, Done,
                                                        Transformation)
from tests.utils import make_kin

pytest.importorskip('mmpretrain')
QUICK = 'KernelDNAResNet'
VERDICTS = {
    'pass', 'deploy before', 'pass; deploy before', 'refused', 'skipped'
}


@pytest.fixture(scope='module')
def page():
    """The cells of this stack."""
    sections = matrix.sections(matrix.PAGE.read_text())[1]
    if matrix.heading() not in sections:
        pytest.skip('docs/transformations.md has no section of this stack: '
                    'python -m tests.test_transformations.matrix writes it')
    return matrix.cells_of(sections[matrix.heading()])


def test_no_cell_is_empty(page):
    assert list(page) == [row.name for row in TABLE]
    for cells in page.values():
        assert list(cells) == list(CASES)
        assert set(cells.values()) <= VERDICTS


@pytest.mark.parametrize(
    'row, model', [
        pytest.param(
            row,
            model,
            marks=[] if row.quick and model == QUICK else pytest.mark.slow)
        for row in TABLE for model in CASES
    ],
    ids=lambda value: getattr(value, 'name', value))
def test_the_page_says_what_the_code_does(row, model, page):
    text, said = matrix.cell(row, model)
    assert text == page[row.name][model], said
    assert bool(said) == (text != 'pass')


def wrong_kernel(net, x):
    conv = next(m for m in net.modules() if getattr(m, 'adapter', None))
    with torch.no_grad():
        conv.adapter.filter.add_(0.1)
    return Done(net, x, None, net)


def no_gradient(net, x):
    next(iter(net.parameters())).requires_grad_(False)
    return Done(net, x, None, net)


def link_out_of_it(net, x):
    net.outside = make_kin()[0][0]
    return Done(net, x, None, net)


def error_of_ours_that_changes_it(net, x):
    with torch.no_grad():
        next(iter(net.parameters())).mul_(2)
    raise RuntimeError('switch_to_deploy')


@pytest.mark.parametrize(
    'apply',
    [wrong_kernel, no_gradient, link_out_of_it, error_of_ours_that_changes_it])
def test_what_is_wrong_does_not_pass(apply):
    wrong = Transformation('wrong', apply, 1e-5, True, True)
    (verdict, said), _ = matrix.try_on(wrong, QUICK, 'trained')
    assert verdict == 'fails' and said


def test_what_a_stack_is_without_is_skipped(monkeypatch):
    said = 'mmseg is not installed'
    monkeypatch.setattr(matrix, 'missing_host', lambda name: said
                        if name == 'mmseg' else '')
    assert matrix.cell(TABLE[0], 'segmentor') == ('skipped', said)
    assert matrix.cell(TABLE[0], QUICK) == ('pass', '')


def test_a_second_stack_is_a_second_section():
    text = 'before\n\n## The current stack\n\na\n\n## The classic stack\n\nb\n'
    before, parts = matrix.sections(text)
    assert before == 'before\n\n'
    assert list(parts) == ['## The current stack', '## The classic stack']
    assert before + ''.join(parts.values()) == text
