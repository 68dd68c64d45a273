"""The runner that our tools build."""
import pytest

from mmkdna import KernelKeepingHook
from mmkdna.launch.config import read_config
from mmkdna.launch.runner import build_runner


@pytest.mark.parametrize('given', [[], [dict(type='KernelKeepingHook')]])
def test_every_run_keeps_kernels_in_its_loops(classifier, given):
    cfg = read_config('tiny.py')
    cfg.launcher, cfg.work_dir = 'none', 'work_dirs'
    cfg.custom_hooks = given
    runner = build_runner(cfg, ('train', 'val'))
    hooks = [h for h in runner.hooks if isinstance(h, KernelKeepingHook)]
    assert len(hooks) == 1
