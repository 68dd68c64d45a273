"""Every transformation of every model, and the page that says so.

Usage: python -m tests.test_transformations.matrix

writes the section of the stack it runs on into docs/transformations.md.
"""
import contextlib
import copy
import importlib
import importlib.metadata
import io
import logging
import re
import traceback
import warnings
from functools import lru_cache
from pathlib import Path

import torch
from mmengine.logging import MMLogger

import mmkdna
from mmkdna import switch_to_deploy
from mmkdna.analysis.tables import markdown_table
from mmkdna.hosts import missing_host
from mmkdna.sharing import named_convs
from tests.runs import ROOT
from tests.test_transformations.models import CASES, RIVALS, X, build
from tests.test_transformations.transformations import (TABLE, assert_close,
                                                        assert_same_gradients,
                                                        backward, gradients)

PAGE = ROOT / 'docs' / 'transformations.md'
LIBRARIES = ('torch', 'mmengine', 'mmcv', 'mmdet', 'mmseg', 'mmpretrain')
PACKAGE = Path(mmkdna.__file__).parent


@lru_cache(maxsize=None)
def built(name, stock):
    return build(name, stock)


def model_of(name, form):
    """A model of its own.

    Args:
        name (str): One of CASES.
        form (str): 'trained', 'deployed' or 'stock'.

    Returns:
        Answer: In eval mode.
    """
    net = copy.deepcopy(built(name, form == 'stock'))
    return switch_to_deploy(net) if form == 'deployed' else net


def try_on(row, name, form):
    """Transform a model and compare.

    Args:
        row (Transformation): The transformation.
        name (str): One of CASES.
        form (str): 'trained', 'deployed' or 'stock'.

    Returns:
        tuple[str, str]: 'pass', 'refused' or 'fails', and what is said then;
        and the same of deploying afterwards, 'pass' where nothing is left to
        be deployed.
    """
    net = model_of(name, form)
    before = model_of(name, form)
    with torch.no_grad():
        expected = before(X)
    try:
        done = row.apply(net, X.clone())
        target = expected if done.expected is None else done.expected
        with torch.no_grad():
            assert_close(done.net(done.x), target, row.tolerance)
        if row.gradients:
            _compare_gradients(done, before)
        if done.module is not None:
            _check_links(done.module)
    except Exception as error:
        return _after_an_error(error, net, expected), None
    if done.module is None or form != 'trained':
        return ('pass', ''), None
    try:
        switch_to_deploy(done.module)
        with torch.no_grad():
            assert_close(done.net(done.x), target, max(row.tolerance, 1e-4))
    except Exception as error:
        return ('pass', ''), _verdict(error)
    return ('pass', ''), ('pass', '')


def _compare_gradients(done, before):
    done.module.zero_grad()
    backward(done.net, done.x)
    backward(before, X)
    assert_same_gradients(gradients(done.module), gradients(before))


def _check_links(module):
    """No link may lead out of what has become of a model."""
    try:
        named_convs(module)
    except ValueError as error:
        raise AssertionError(str(error)) from error


def _after_an_error(error, net, expected):
    """What is refused leaves the model as it was."""
    verdict, said = _verdict(error)
    if verdict == 'refused':
        try:
            with torch.no_grad():
                assert_close(net.eval()(X), expected, 1e-4)
        except Exception as second:
            return 'fails', f'{second} after {said}'
    return verdict, said


def _verdict(error):
    """Tell what we refuse from what goes wrong."""
    frames = [
        frame.filename for frame in traceback.extract_tb(error.__traceback__)
    ]
    text = str(error)
    refused = (
        Path(frames[-1]).is_relative_to(PACKAGE) or 'switch_to_deploy' in text)
    said = re.sub(r'\s+', ' ', text).strip()
    if isinstance(error, AssertionError):
        refused = False
    return 'refused' if refused else 'fails', f'{type(error).__name__}: {said}'


def cell(row, name):
    """What a cell says.

    Args:
        row (Transformation): The transformation.
        name (str): One of CASES.

    Returns:
        tuple[str, str]: The cell, and the message of what is not 'pass'.
    """
    absent = missing_host(CASES[name][0])
    if absent:
        return 'skipped', absent
    with _quietly():
        (verdict, said), deployed_after = try_on(row, name, 'trained')
        if name in RIVALS or not row.deployed:
            # There is nothing to deploy, or it is tested elsewhere.
            deployed, deployed_said = verdict, said
        else:
            (deployed, deployed_said), _ = try_on(row, name, 'deployed')
        if 'fails' in (verdict, deployed):
            (stock, stock_said), _ = try_on(row, name, 'stock')
            if stock == 'fails' and verdict == deployed:
                return 'skipped', f'the stock model fails too: {stock_said}'
            return 'FAILS', f'{said or deployed_said}'
    if verdict == deployed == 'pass':
        if deployed_after is None or deployed_after[0] == 'pass':
            return 'pass', ''
        if deployed_after[0] == 'refused':
            return 'pass; deploy before', deployed_after[1]
        return 'FAILS', f'deployed after it: {deployed_after[1]}'
    if verdict == 'refused' and deployed == 'pass':
        return 'deploy before', said
    if verdict == deployed == 'refused':
        return 'refused', said
    return 'FAILS', f'{verdict} {said}, deployed {deployed} {deployed_said}'


@contextlib.contextmanager
def _quietly():
    logger = MMLogger.get_current_instance()
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), \
                contextlib.redirect_stderr(io.StringIO()):
            warnings.simplefilter('ignore')
            yield
    finally:
        logger.setLevel(level)


def section(log=print):
    """The section of the page for this stack.

    Args:
        log (callable): Is told each row. Defaults to print.

    Returns:
        str: Its heading, versions, table and notes.

    Raises:
        AssertionError: If something fails that the stock model does.
    """
    body, notes = [], []
    for row in TABLE:
        cells = [cell(row, name) for name in CASES]
        log(row.name, *(text for text, _ in cells), sep=' | ')
        for name, (text, said) in zip(CASES, cells):
            assert text != 'FAILS', f'{row.name} of {name}: {said}'
        numbers = {}
        for text, said in cells:
            if said and text not in numbers:
                if _short(said) not in notes:
                    notes.append(_short(said))
                numbers[text] = 1 + notes.index(_short(said))
        body.append((row.name, *(text + (f' [{numbers[text]}]' if said else '')
                                 for text, said in cells)))
    table = markdown_table(('', *CASES), body)
    listed = '\n'.join(f'{number}. `{said}`'
                       for number, said in enumerate(notes, 1))
    versions = ', '.join(
        name + ' ' + importlib.import_module(name).__version__.split('+')[0]
        for name in LIBRARIES if not missing_host(name))
    return (f'{heading()}\n\n{versions}.\n\n{table}\n\n'
            f'What is said, of the first model:\n\n{listed}\n')


def heading():
    """The heading of this stack's section."""
    if missing_host('mmdet'):
        return '## The light stack'
    try:
        importlib.metadata.version('onedl-mmengine')
    except importlib.metadata.PackageNotFoundError:
        return '## The classic stack'
    return '## The current stack'


def _short(text):
    text = text.replace('`', "'")
    return text if len(text) <= 330 else f'{text[:90]} ... {text[-230:]}'


def sections(text):
    """Split the page.

    Args:
        text (str): The page.

    Returns:
        tuple[str, dict[str, str]]: What stands before the stacks, and the
        section of each by its heading.
    """
    before, *parts = re.split('^(?=## The )', text, flags=re.MULTILINE)
    return before, {part.splitlines()[0]: part for part in parts}


def cells_of(text):
    """Read a section's table.

    Args:
        text (str): The section.

    Returns:
        dict[str, dict[str, str]]: By transformation, the cell of each model
        without the number of its note.
    """
    head, _, *rows = [[part.strip() for part in line.strip('|').split('|')]
                      for line in text.splitlines() if line.startswith('|')]
    return {
        row[0]: {
            name: re.sub(r' \[\d+\]$', '', text)
            for name, text in zip(head[1:], row[1:])
        }
        for row in rows
    }


def main():
    """Write this stack's section."""
    before, parts = sections(PAGE.read_text())
    parts[heading()] = section()
    PAGE.write_text(before + '\n'.join(
        part.rstrip('\n') + '\n' for part in parts.values()))


if __name__ == '__main__':
    main()
