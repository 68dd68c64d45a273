"""Every test starts from the same state, whatever ran before it."""
import random

import numpy as np
import pytest
import torch
from hypothesis import settings
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
