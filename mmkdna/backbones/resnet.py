"""The paper's ResNets, for any host library's ``ResNet`` class."""
from __future__ import annotations
from typing import Any, Sequence

from torch import nn

from ..pretrained.plain import accept_plain_weights
from ..unit import link_kernels
from .base import HostClass, check_sharing_stages, sharing_conv_cfg

DEPTHS = (18, 34, 50, 101)
SHARING_STAGES = (3, 4)


def sharing_arch(arch_settings: dict[int, tuple]) -> dict[int, tuple]:
    """Choose the topologies in which every parent finds its child.

    A sharing stage is a first block, which changes the resolution, and pairs
    of blocks behind it; so one with an even number of blocks gets one more.
    That makes the paper's networks of ResNet-18 (2, 2, 3, 3) and ResNet-50
    (3, 4, 7, 3); for ResNet-34 (3, 4, 7, 3) and ResNet-101 (3, 4, 23, 3) the
    rule is applied by us.

    Args:
        arch_settings (dict[int, tuple]): Block class and numbers of blocks by
            depth, as in a host library's ``ResNet``.

    Returns:
        dict[int, tuple]: The same for depths 18, 34, 50 and 101.
    """
    settings = {}
    for depth in DEPTHS:
        block, numbers = arch_settings[depth]
        settings[depth] = (
            block,
            tuple(number +
                  1 if stage in SHARING_STAGES and number % 2 == 0 else number
                  for stage, number in enumerate(numbers, 1)))
    return settings


class KernelDNAResNetMixin(HostClass):
    """ResNet whose 3x3 convolutions share kernels in some of its stages.

    Stands before a host library's ``ResNet`` in the bases of a class with
    ``arch_settings = sharing_arch(ResNet.arch_settings)``; everything not
    named here is passed on to that ``ResNet``.

    In a stage of basic blocks every 3x3 convolution of one shape takes part;
    in a stage of bottlenecks the 3x3 of the first block is plain.
    Source: arXiv 2503.23379.

    Args:
        depth (int): 18, 34, 50 or 101.
        sharing_stages (Sequence[int]): The stages that share, 1 to 4; ``()``
            gives the plain network of the same topology. Defaults to (3, 4).
        conv_cfg (dict): ``dict(type='KernelDNA', ...)`` with the options of
            the stages that share; the others have plain ``nn.Conv2d``.
            Defaults to ``dict(type='KernelDNA')``.
        **kwargs: Arguments of the host library's ``ResNet``.

    Raises:
        ValueError: If there is no such depth or stage, or ``conv_cfg`` has
            another type.
    """

    def __init__(self,
                 depth: int,
                 *args: Any,
                 sharing_stages: Sequence[int] = SHARING_STAGES,
                 conv_cfg: dict = dict(type='KernelDNA'),
                 **kwargs: Any) -> None:
        if depth not in tuple(self.arch_settings):
            raise ValueError(f'depth={depth!r} is given, one of '
                             f'{tuple(self.arch_settings)} is expected')
        self.sharing_stages = check_sharing_stages(sharing_stages, range(1, 5))
        own = {}
        if depth >= 50:  # bottlenecks
            own['name_pattern'] = r'^layer\d+\.(?!0\.)'
        self.sharing_conv_cfg = sharing_conv_cfg(conv_cfg, **own)
        super().__init__(depth, *args, **kwargs)
        link_kernels(self)
        # The plain network of this topology too has blocks to start.
        accept_plain_weights(self)

    def make_res_layer(self, **kwargs: Any) -> nn.Sequential:
        """Build the next stage, its convolutions KernelDNA's if it shares."""
        if len(self.res_layers) + 1 in self.sharing_stages:
            kwargs['conv_cfg'] = self.sharing_conv_cfg
        return super().make_res_layer(**kwargs)
