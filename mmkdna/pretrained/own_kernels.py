"""The children of a run that keep their own kernel."""
from __future__ import annotations

from mmengine.model import is_model_wrapper
from mmengine.runner import Runner

from ..averaging import averaged_models
from ..conv import KernelDNAConv2d
from ..sharing import children_of


def own_kernel_children(runner: Runner) -> list[KernelDNAConv2d]:
    """Find them in the trained model and in the one an ``EMAHook`` averages.

    Args:
        runner (Runner): A runner whose hooks have run ``before_run``.

    Returns:
        list[KernelDNAConv2d]: Those with a buffer ``own_weight``.
    """
    models = [runner.model, *averaged_models(runner)]
    return [
        child for model in models for child in children_of(
            model.module if is_model_wrapper(model) else model)
        if child.keeps_own_kernel
    ]


def drop_own_kernels(runner: Runner) -> None:
    """Have all children of a run end with their derived kernels only.

    Args:
        runner (Runner): A runner whose hooks have run ``before_run``.
    """
    for child in own_kernel_children(runner):
        child.drop_own_weight()
    forget_dropped(runner)


def forget_dropped(runner: Runner) -> None:
    """Have averaged models average what they still have.

    With ``update_buffers=True`` they hold a list of it, from before.

    Args:
        runner (Runner): A runner whose hooks have run ``before_run``.
    """
    for model in averaged_models(runner):
        left = model.module.state_dict()
        for key in set(model.avg_parameters) - set(left):
            del model.avg_parameters[key]
