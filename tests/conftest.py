"""Every test starts from the same state, whatever ran before it."""
import io
import logging
import random
import re

import numpy as np
import pytest
import torch
from hypothesis import settings
from mmengine.config import Config
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

from mmkdna.bases import MissingBaseError
from mmkdna.hosts import EXTRAS, missing_host
from tests.runs import skip_if_missing

# What tests call models by what they are for.
TASKS = dict(detector='mmdet', segmentor='mmseg', classifier='mmpretrain')

settings.register_profile('mmkdna', deadline=None, derandomize=True)
settings.load_profile('mmkdna')


def pytest_runtest_setup(item):
    """Skip what is about a host library that this stack is without.

    It is named by the mark ``hosts``, or in a parameter of the test: 'mmdet',
    'detector', ``dict(type='mmdet.ResNet')``.
    """
    marks = [mark.args for mark in item.iter_markers('hosts')]
    callspec = getattr(item, 'callspec', None)
    for name in names_in([marks, callspec.params if callspec else {}]):
        if name in EXTRAS and missing_host(name):
            pytest.skip(f'{name} is not installed')


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(call):
    """Skip what reads a config of a host library that is not there."""
    if call.excinfo and isinstance(call.excinfo.value, MissingBaseError):
        try:
            skip_if_missing(str(call.excinfo.value))
        except pytest.skip.Exception:
            call.excinfo = pytest.ExceptionInfo.from_current()
    yield


def names_in(value):
    """The names that texts in nested values start with."""
    if isinstance(value, str):
        yield re.split('[.:]', TASKS.get(value, value))[0]
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from names_in(part)
    elif isinstance(value, (dict, Config)):
        yield from names_in([part for _, part in value.items()])


@pytest.fixture(autouse=True)
def fresh_start():
    random.seed(0)
    np.random.seed(0)
    torch.manual_seed(0)
    # Tiny tensors: a second thread waits more than it works.
    torch.set_num_threads(1)
    # Another test's default scope would decide where a type is looked up.
    scopes = dict(DefaultScope._instance_dict)
    DefaultScope._instance_dict.clear()
    yield
    DefaultScope._instance_dict.clear()
    DefaultScope._instance_dict.update(scopes)


@pytest.fixture
def said():
    """What mmengine's logger is told, as one text."""
    handler = logging.StreamHandler(io.StringIO())
    logger = MMLogger.get_current_instance()
    logger.addHandler(handler)
    yield handler.stream.getvalue
    logger.removeHandler(handler)
