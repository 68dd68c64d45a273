"""The runner that our tools build."""
import pytest
from mmengine.config import Config
from mmengine.hooks import CheckpointHook

from mmkdna import KernelKeepingHook
from mmkdna.checkpoints.saving_hook import WholeCheckpointHook
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


@pytest.mark.parametrize('place', [
    'default_hooks = dict(checkpoint=HOOK)',
    'custom_hooks = [HOOK]\ndefault_hooks = dict(checkpoint=None)'
])
def test_a_lazy_config_saves_whole_files_too(classifier, place):
    hook = 'dict(type=CheckpointHook, interval=7, max_keep_ckpts=1)'
    text = 'from mmengine.hooks import CheckpointHook\n'
    (classifier / 'hooks.py').write_text(text + place.replace('HOOK', hook))
    lazy = Config.fromfile('hooks.py', lazy_import=True)
    cfg = read_config('tiny.py')
    cfg.launcher, cfg.work_dir = 'none', 'work_dirs'
    for key in ('default_hooks', 'custom_hooks'):
        if key in lazy:
            cfg[key] = lazy[key]
    hooks = [
        h for h in build_runner(cfg, ('train', )).hooks
        if isinstance(h, CheckpointHook)
    ]
    assert [type(hook) for hook in hooks] == [WholeCheckpointHook]
    assert hooks[0].interval == 7 and hooks[0].max_keep_ckpts == 1
