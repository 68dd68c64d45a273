"""A ConvNeXt that shares kernels, for MMPretrain's ``ConvNeXt`` class."""
from __future__ import annotations
from typing import Any, Sequence

from mmcv.cnn import build_conv_layer
from torch import nn

from ..pretrained.plain import accept_plain_weights
from ..unit import link_kernels
from .base import HostClass, check_sharing_stages, sharing_conv_cfg

SHARING_STAGES = (3, 4)
# The layers of a block, in forward order.
LAYERS = ('depthwise_conv', 'pointwise_conv1', 'pointwise_conv2')


class KernelDNAConvNeXtMixin(HostClass):
    """ConvNeXt whose pointwise convolutions share kernels in some stages.

    Stands before MMPretrain's ``ConvNeXt`` in the bases of a class;
    everything not named here is passed on to that ``ConvNeXt``.

    The paper, arXiv 2503.23379, names ConvNeXt-T among its networks, but no
    code of it was published: where kernels are shared is our design, after
    the paper's ResNets and MobileNetV2.

    In a stage that shares, the first block is plain and the others are pairs
    of a child and the parent behind it; where their number is odd, the first
    parent serves two. The expansions (``pointwise_conv1``) share among
    themselves and so do the projections (``pointwise_conv2``): in stages 3
    and 4 they hold 98 % and more of a block's weights. A gate on a depthwise
    convolution has more weights there than its kernel, so these do not share
    unless the options say so: ``kernel_sizes=(1, 7), grouped=True``, or
    ``kernel_sizes=(7, ), grouped=True`` for them alone. A pointwise layer of
    a stage that shares is a convolution, whatever ``linear_pw_conv`` says for
    the others.

    Args:
        sharing_stages (Sequence[int]): The stages that share, 1 to 4, where
            stage 1 is ``stages.0``; ``()`` gives the plain network, which is
            the stock one. Defaults to (3, 4).
        conv_cfg (dict): ``dict(type='KernelDNA', ...)`` with the options of
            the stages that share. Defaults to ``dict(type='KernelDNA')``.
        **kwargs: Arguments of MMPretrain's ``ConvNeXt``.

    Raises:
        ValueError: If there is no such stage, or ``conv_cfg`` has another
            type.
    """

    def __init__(self,
                 *args: Any,
                 sharing_stages: Sequence[int] = SHARING_STAGES,
                 conv_cfg: dict = dict(type='KernelDNA'),
                 **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.sharing_stages = check_sharing_stages(
            sharing_stages, range(1, self.num_stages + 1))
        conv_cfg = sharing_conv_cfg(
            conv_cfg,
            kernel_sizes=(1, ),
            stage_level=2,
            name_pattern=r'^stages\.\d+\.(?!0\.)')
        for stage in self.sharing_stages:
            for block in self.stages[stage - 1]:
                # What the block's forward looks at.
                block.linear_pw_conv = False
                for name in LAYERS:
                    layer = getattr(block, name)
                    setattr(block, name, _sharing_conv(layer, conv_cfg))
        self._freeze_stages()
        link_kernels(self)
        # The plain network too takes linear layers for convolutions.
        accept_plain_weights(self)


def _sharing_conv(layer: nn.Linear | nn.Conv2d, conv_cfg: dict) -> nn.Conv2d:
    """Build a convolution in the place of a block's layer."""
    if isinstance(layer, nn.Linear):
        return build_conv_layer(conv_cfg, layer.in_features,
                                layer.out_features, 1)
    return build_conv_layer(
        conv_cfg,
        layer.in_channels,
        layer.out_channels,
        layer.kernel_size,
        padding=layer.padding,
        groups=layer.groups)
