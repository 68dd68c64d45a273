"""The layers that each method's authors make dynamic, as options.

By conv type, then by network, with the names of mmpretrain::

conv_cfg=dict(type='DyConv', **LAYER_SETS['DyConv']['resnet50'])

The number of experts is left at the default of the type, which is what the
authors call 8x for CondConv, 4x for DyConv and 1x for ODConv. CondConv's
authors have experts in the classifier as well, which is no convolution and
stays plain here.
"""
from __future__ import annotations
from typing import Any

LAYER_SETS: dict[str, dict[str, dict[str, Any]]] = dict(
    # The last 3 residual blocks, or the last 6 inverted residuals, each
    # routed once from its input.
    CondConv=dict(
        resnet18=dict(
            routing='block',
            kernel_sizes=(1, 3),
            name_pattern=r'^(layer3\.1|layer4)'),
        resnet50=dict(
            routing='block', kernel_sizes=(1, 3), name_pattern='^layer4'),
        mobilenet_v2=dict(
            routing='block',
            kernel_sizes=(1, 3),
            grouped=True,
            name_pattern=r'^(layer5\.[12]|layer6|layer7)')),
    # All convolutions of blocks, and shortcuts; the last 1x1.
    DyConv=dict(
        resnet18=dict(
            kernel_sizes=(1, 3), shortcuts=True, name_pattern='^layer'),
        resnet50=dict(
            kernel_sizes=(1, 3), shortcuts=True, name_pattern='^layer'),
        mobilenet_v2=dict(
            kernel_sizes=(1, 3), grouped=True, name_pattern='^(layer|conv2)')),
    # All convolutions of blocks, without shortcuts; the last 1x1.
    ODConv=dict(
        resnet18=dict(kernel_sizes=(1, 3), name_pattern='^layer'),
        resnet50=dict(kernel_sizes=(1, 3), name_pattern='^layer'),
        mobilenet_v2=dict(
            kernel_sizes=(1, 3), grouped=True, name_pattern='^(layer|conv2)')),
    # As ODConv's, with shortcuts of stride 2, without the first convolution
    # of a ResNet-50's first block. What leads into a stage is of the stage
    # before: a convolution in a ResNet, a whole block in a MobileNetV2, whose
    # last 1x1 is of its last stage.
    KernelWarehouse=dict(
        resnet18=dict(
            kernel_sizes=(1, 3),
            shortcuts=True,
            name_pattern='^layer',
            earlier_pattern=r'\.0\.(conv1|downsample)'),
        resnet50=dict(
            kernel_sizes=(1, 3),
            shortcuts=True,
            name_pattern=r'^layer(?!1\.0\.(conv1|downsample))',
            earlier_pattern=r'\.0\.(conv1|downsample)'),
        mobilenet_v2=dict(
            kernel_sizes=(1, 3),
            grouped=True,
            name_pattern='^(layer|conv2)',
            earlier_pattern=r'^(layer[2-7]\.0\.|conv2)'),
    ),
)
