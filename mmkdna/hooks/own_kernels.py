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
    models = [runner.model]
    models += [
        hook.ema_model for hook in runner.hooks
        if isinstance(hook, EMAHook) and hasattr(hook, 'ema_model')
    ]
    return [
        conv for model in models for conv in (
            model.module if is_model_wrapper(model) else model).modules()
        if isinstance(conv, KernelDNAConv2d) and 'own_weight' in conv._buffers
    ]
