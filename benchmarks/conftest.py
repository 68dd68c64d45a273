"""How benchmarks are run and stored."""
import pytest
import torch


@pytest.fixture(autouse=True)
def same_conditions():
    """One thread, and the same random numbers."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    yield
    torch.set_num_threads(threads)


def pytest_benchmark_update_machine_info(config, machine_info):
    """Store what times depend on, and not whose machine it was."""
    del machine_info['node']
    machine_info['cpu'].pop('flags', None)
    machine_info['torch'] = torch.__version__


def pytest_benchmark_generate_commit_info(config):
    """Store nothing of a checkout; the stored file has its commit in git."""
    return dict(id='', dirty=False)
