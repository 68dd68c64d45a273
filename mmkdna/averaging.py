"""Which models a run averages."""
from __future__ import annotations
from typing import Iterator

from mmengine.hooks import EMAHook
from mmengine.model import BaseAveragedModel
from mmengine.runner import Runner


def averaged_models(runner: Runner) -> Iterator[BaseAveragedModel]:
    """Find what the ``EMAHook`` of a run averages, or several of them.

    Args:
        runner (Runner): A runner. What a hook has not made yet, which it does
            in ``before_run``, is left out.

    Yields:
        BaseAveragedModel: The averaged models.
    """
    for hook in runner.hooks:
        if isinstance(hook, EMAHook) and hasattr(hook, 'ema_model'):
            yield hook.ema_model
