"""Two processes with an image each train as one process with both."""
import pytest
import torch

import mmkdna  # noqa: F401
from tests.integration import gradients
from tests.runs import run


@pytest.fixture(scope='module')
def of_two_processes(tmp_path_factory):
    folder = tmp_path_factory.mktemp('gradients')
    run('torchrun',
        '--standalone',
        '--nproc_per_node=2',
        gradients.__file__,
        'gradients.pth',
        cwd=folder)
    return torch.load(folder / 'gradients.pth')


@pytest.mark.parametrize('task', gradients.TASKS)
def test_gradients_equal_those_of_one_process(of_two_processes, task):
    expected = gradients.gradients(task)
    found = of_two_processes[task]
    assert found.keys() == expected.keys()
    assert any('.adapter.gate.' in name for name in found)
    for name in expected:
        assert expected[name] is not None, f'{name} is never used'
        assert expected[name].any(), f'{name} has no influence'
        difference = (found[name] - expected[name]).norm()
        assert difference <= 1e-4 * expected[name].norm(), name
