"""The children of a run that keep their own kernel."""
from mmengine.hooks import EMAHook
from mmengine.model import is_model_wrapper

from ..conv import KernelDNAConv2d


def own_kernel_children(runner):
    """Find them in the trained model and in the one an ``EMAHook`` averages.

    Args:
        runner (Runner): A runner whose hooks have run ``before_run``.

    Returns:
        list[KernelDNAConv2d]: Those with a buffer ``own_weight``.
    """
    models = [runner.model, *_averaged_models(runner)]
    return [
        conv for model in models for conv in (
            model.module if is_model_wrapper(model) else model).modules()
        if isinstance(conv, KernelDNAConv2d) and 'own_weight' in conv._buffers
    ]


def drop_own_kernels(runner):
    """Have all children of a run end with their derived kernels only.

    Args:
        runner (Runner): A runner whose hooks have run ``before_run``.
    """
    for conv in own_kernel_children(runner):
        conv.drop_own_weight()
    forget_dropped(runner)


def forget_dropped(runner):
    """Have averaged models average what they still have.

    With ``update_buffers=True`` they hold a list of it, from before.

    Args:
        runner (Runner): A runner whose hooks have run ``before_run``.
    """
    for model in _averaged_models(runner):
        left = model.module.state_dict()
        for key in set(model.avg_parameters) - set(left):
            del model.avg_parameters[key]


def _averaged_models(runner):
    return [
        hook.ema_model for hook in runner.hooks
        if isinstance(hook, EMAHook) and hasattr(hook, 'ema_model')
    ]
