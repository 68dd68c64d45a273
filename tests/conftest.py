"""Every test starts from the same state, whatever ran before it."""
import io
import logging
import random

import numpy as np
import pytest
import torch
from hypothesis import settings
from mmengine.logging import MMLogger
from mmengine.registry import DefaultScope

settings.register_profile('mmkdna', deadline=None, derandomize=True)
settings.load_profile('mmkdna')


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
