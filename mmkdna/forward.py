"""A whole model of a host library, run without samples of its own."""
from __future__ import annotations
from contextlib import contextmanager
from functools import partial
from typing import Any, Iterator

import torch
from mmengine.structures import BaseDataElement
from torch import Tensor, nn

# What heads look up of an image that is as large as its tensor.
SHAPES = ('img_shape', 'ori_shape', 'pad_shape', 'batch_input_shape')


def forward_dense(model: Any, x: Tensor) -> Any:
    """Run what a model computes for whole images.

    That is the backbone, the neck, and the head of a classifier, a segmentor
    or a one-stage detector; of a two-stage one, the RPN, whose proposals the
    RoI heads would see. What a training needs alone, such as auxiliary heads,
    is not run.

    Args:
        model (nn.Module): A classifier, detector or segmentor.
        x (Tensor): Images as the data preprocessor gives them, shape
            (N, 3, H, W).

    Returns:
        Any: What the model gives in its mode 'tensor'; of a two-stage detector
        what the RPN gives, or the features where it has none.
    """
    if getattr(model, 'roi_head', None) is not None:
        features = model.extract_feat(x)
        return model.rpn_head(features) if model.with_rpn else features
    shape = tuple(x.shape[2:])
    samples = [
        BaseDataElement(metainfo=dict.fromkeys(SHAPES, shape)) for _ in x
    ]
    return model(x, samples, mode='tensor')


@contextmanager
def finite_outputs(model: nn.Module) -> Iterator[None]:
    """Have a model's forward end where it gives no finite number first.

    Args:
        model (nn.Module): Any module.

    Raises:
        ValueError: With the name of the innermost module whose output has the
            first value that is NaN or infinite.
    """
    handles = [
        module.register_forward_hook(partial(_check_finite, name))
        for name, module in model.named_modules()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _check_finite(name: str, module: nn.Module, args: Any,
                  output: Any) -> None:
    if torch.is_tensor(output) and not output.isfinite().all():
        raise ValueError(
            f'{name or "the model"}, of type {type(module).__name__}, is the '
            'first whose output has values that are no finite numbers: look '
            'at the weights of it and of what is before it')
