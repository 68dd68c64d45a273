"""What a stack is without is skipped, and nothing else."""
import pytest
from mmengine.config import Config

from tests import conftest, runs

WITHOUT = 'mmdet is not installed: pip install "mmkdna[det]" installs it'


@pytest.fixture
def without_mmdet(monkeypatch):
    for module in (conftest, runs):
        monkeypatch.setattr(module, 'missing_host', lambda name: WITHOUT
                            if name == 'mmdet' else '')


def test_the_names_in_parameters():
    config = Config(dict(default_scope='mmpretrain'))
    given = ['mmseg.ResNet', dict(a=[dict(type='mmdet::b')]), 'segmentor', 3]
    found = list(conftest.names_in([given, config]))
    assert found == ['mmseg', 'mmdet', 'mmseg', 'mmpretrain']


@pytest.mark.parametrize('name, skips', [('mmdet.ResNet', True),
                                         ('mmseg.ResNet', False)])
def test_a_parameter_that_names_it(request, without_mmdet, name, skips):
    if skips:
        with pytest.raises(pytest.skip.Exception, match='mmdet is not'):
            conftest.pytest_runtest_setup(request.node)
    else:
        conftest.pytest_runtest_setup(request.node)


@pytest.mark.hosts('mmdet')
def test_a_mark(request, without_mmdet):
    with pytest.raises(pytest.skip.Exception, match='mmdet is not'):
        conftest.pytest_runtest_setup(request.node)


def test_what_a_command_says(without_mmdet):
    with pytest.raises(pytest.skip.Exception, match='mmdet is not'):
        runs.skip_if_missing(f'config.py has _base_, but {WITHOUT}')
    runs.skip_if_missing(WITHOUT.replace('mmdet', 'mmseg'))
