"""The paper's MobileNetV2, for any host library's ``MobileNetV2`` class."""
from __future__ import annotations
from typing import Any, Sequence

from torch import nn

from ..pretrained.plain import accept_plain_weights
from ..unit import link_kernels
from .base import HostClass, check_sharing_stages, sharing_conv_cfg

SHARING_STAGES = (3, 4, 5, 6)


class KernelDNAMobileNetV2Mixin(HostClass):
    """MobileNetV2 whose pointwise convolutions share kernels.

    Stands before a host library's ``MobileNetV2`` in the bases of a class;
    everything not named here is passed on to that ``MobileNetV2``.

    In a stage that shares, the first block is plain and the last is the
    parent of all between: the expansions share among themselves and so do the
    projections; the depthwise convolutions do not. Source: arXiv 2503.23379.

    Args:
        sharing_stages (Sequence[int]): The stages that share, 1 to 7, where
            ``layer3`` to ``layer6`` have 32, 64, 96 and 160 channels; ``()``
            gives the plain network. Defaults to (3, 4, 5, 6).
        conv_cfg (dict): ``dict(type='KernelDNA', ...)`` with the options of
            the stages that share; the others have plain ``nn.Conv2d``.
            Defaults to ``dict(type='KernelDNA')``.
        **kwargs: Arguments of the host library's ``MobileNetV2``.

    Raises:
        ValueError: If there is no such stage, or ``conv_cfg`` has another
            type.
    """

    def __init__(self,
                 *args: Any,
                 sharing_stages: Sequence[int] = SHARING_STAGES,
                 conv_cfg: dict = dict(type='KernelDNA'),
                 **kwargs: Any) -> None:
        self.sharing_stages = check_sharing_stages(sharing_stages, range(1, 8))
        self.sharing_conv_cfg = sharing_conv_cfg(
            conv_cfg,
            kernel_sizes=(1, ),
            children_per_parent=None,
            name_pattern=r'^layer\d+\.(?!0\.)')
        super().__init__(*args, **kwargs)
        link_kernels(self)
        # The plain network too takes torchvision's keys.
        accept_plain_weights(self)

    def make_layer(self, *args: Any, **kwargs: Any) -> nn.Sequential:
        """Build the next stage, its convolutions KernelDNA's if it shares."""
        if len(self.layers) + 1 in self.sharing_stages:
            self.conv_cfg: dict | None = self.sharing_conv_cfg
        layer = super().make_layer(*args, **kwargs)
        self.conv_cfg = None
        return layer
