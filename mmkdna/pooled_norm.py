"""A norm of what global pooling leaves: one value per channel and image."""
from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import SyncBatchNorm, _BatchNorm


def normalize_pooled(norm: nn.Module, pooled: Tensor) -> Tensor:
    """Normalise what global pooling leaves of an input.

    A batch norm in train mode has no statistics of a single image, so with
    one image per device (or none, in a head without proposals) it normalises
    with its running statistics and leaves them as they are, which is also
    what it does at inference. A ``SyncBN`` over several devices has enough
    values and keeps its batch statistics.

    Args:
        norm (nn.Module): Any norm.
        pooled (Tensor): Shape (N, C, 1, 1).

    Returns:
        Tensor: Of that shape.
    """
    if (isinstance(norm, _BatchNorm) and norm.training and pooled.shape[0] < 2
            and not _spans_devices(norm)):
        return F.batch_norm(
            pooled,
            norm.running_mean,
            norm.running_var,
            norm.weight,
            norm.bias,
            eps=norm.eps)
    return norm(pooled)


def _spans_devices(norm: nn.Module) -> bool:
    """Whether a norm gathers its statistics from more than one process."""
    return (isinstance(norm, SyncBatchNorm)
            and torch.distributed.is_available()
            and torch.distributed.is_initialized()
            and torch.distributed.get_world_size(norm.process_group) > 1)
