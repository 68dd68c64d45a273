"""What figures depend on beside the models."""
import platform
from pathlib import Path

import pytest
import torch

from mmkdna.analysis.machine import machine, processor


def test_it_is_named_as_the_system_names_it():
    assert machine('cpu', 3) == dict(
        device='cpu', processor=processor(), threads=3)
    cpuinfo = Path('/proc/cpuinfo')
    if cpuinfo.is_file() and 'model name' in cpuinfo.read_text():
        # What Python says itself is the architecture, of thousands alike.
        assert processor() != platform.machine()


@pytest.mark.skipif(not torch.cuda.is_available(), reason='needs a GPU')
def test_a_gpu_is_named():
    assert machine('cuda:0', 1)['device'] == torch.cuda.get_device_name(0)
