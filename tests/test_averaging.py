"""Which models a run averages."""
from types import SimpleNamespace

from mmengine.hooks import EMAHook, IterTimerHook
from torch import nn

from mmkdna.averaging import averaged_models


def test_those_that_are_there():
    hooks = [EMAHook(), IterTimerHook(), EMAHook()]
    runner = SimpleNamespace(hooks=hooks, model=nn.Linear(1, 1), iter=0)
    assert list(averaged_models(runner)) == []
    hooks[2].before_run(runner)
    averaged, = averaged_models(runner)
    assert averaged is hooks[2].ema_model
