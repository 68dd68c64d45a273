"""The tensors of the authors' MobileNetV2."""
from __future__ import annotations
from typing import Sequence

from .table import Table


def _inverted_residual(table: Table, names: Sequence[str], ours: str,
                       inputs: int, outputs: int, expansion: int) -> None:
    """Add a block without children.

    Args:
        table (Table): Gets its entries.
        names (Sequence[str]): The authors' names of its convolutions and
            norms, in turns.
        ours (str): Our name of the block.
        inputs (int): Channels of its input.
        outputs (int): Channels of its output.
        expansion (int): The hidden channels are this many times the inputs.
    """
    hidden = inputs * expansion
    shapes = [(hidden, inputs, 1), (hidden, 1, 3), (outputs, hidden, 1)]
    if expansion == 1:
        del shapes[0]
    for i, shape in enumerate(shapes):
        table.conv(names[2 * i], f'{ours}.conv.{i}.conv', *shape)
        table.norm(names[2 * i + 1], f'{ours}.conv.{i}.bn', shape[0])


def _torchvision_inverted_residual(name: str, expansion: int) -> list[str]:
    names: Sequence[str] = ('0.0', '0.1', '1.0', '1.1', '2', '3')
    if expansion == 1:
        names = ('0.0', '0.1', '1', '2')
    return [f'{name}.conv.{part}' for part in names]


def _layered_inverted_residual(name: str) -> list[str]:
    return [
        f'{name}.layers.{part}'
        for part in ('pw1', 'bn1', 'dw', 'bn2', 'pw2', 'bn3')
    ]


def _child_inverted_residual(table: Table, theirs: str, child: int,
                             children: int, ours: str, channels: int) -> None:
    """Add a block whose pointwise convolutions are children.

    Args:
        table (Table): Gets its entries.
        theirs (str): The authors' name of its stage.
        child (int): Its number among the stage's blocks of this kind.
        children (int): Their number.
        ours (str): Our name of the block.
        channels (int): Channels of its input and output.
    """
    hidden = 6 * channels
    block = f'{theirs}.blocks.{child}'
    for place, number, inputs, outputs in ((0, 1, channels, hidden),
                                           (2, 3, hidden, channels)):
        conv = f'{ours}.conv.{place}.conv'
        table.row(f'{theirs}.static_filter_attn{number}', child, children,
                  f'{conv}.adapter.filter', outputs, 1, 1, 1)
        table.gate(f'{block}.se{number}.se', f'{conv}.adapter.gate', inputs,
                   outputs)
        table.norm(f'{block}.bn{number}', f'{ours}.conv.{place}.bn', outputs)
    table.conv(f'{block}.dwconv', f'{ours}.conv.1.conv', hidden, 1, 3)
    table.norm(f'{block}.bn2', f'{ours}.conv.1.bn', hidden)


def mobilenet_v2(width: float) -> Table:
    """List the tensors of MobileNetV2.

    Args:
        width (float): What all numbers of channels but the last are
            multiplied by.

    Returns:
        Table: Its entries.
    """

    def scaled(channels: int) -> int:
        return max(8, int(channels * width + 4) // 8 * 8)

    table = Table()
    inputs = scaled(32)
    table.conv('features.0.0', 'backbone.conv1.conv', inputs, 3, 3)
    table.norm('features.0.1', 'backbone.conv1.bn', inputs)
    feature = 1
    # Channels, blocks, expansion; the stages in between share.
    stages = ((16, 1, 1), (24, 2, 6), (32, 3, 6), (64, 4, 6), (96, 3, 6),
              (160, 3, 6), (320, 1, 6))
    for number, (channels, blocks, expansion) in enumerate(stages, 1):
        outputs = scaled(channels)
        ours = f'backbone.layer{number}'
        if 3 <= number <= 6:
            # A whole stage lies in the place of its last block.
            theirs = f'features.{feature + blocks - 1}'
            _inverted_residual(
                table, _layered_inverted_residual(f'{theirs}.transition'),
                f'{ours}.0', inputs, outputs, expansion)
            for child in range(blocks - 2):
                _child_inverted_residual(table, theirs, child, blocks - 2,
                                         f'{ours}.{child + 1}', outputs)
            _inverted_residual(
                table, _layered_inverted_residual(f'{theirs}.last_block'),
                f'{ours}.{blocks - 1}', outputs, outputs, expansion)
            inputs = outputs
        else:
            for block in range(blocks):
                _inverted_residual(
                    table,
                    _torchvision_inverted_residual(
                        f'features.{feature + block}', expansion),
                    f'{ours}.{block}', inputs, outputs, expansion)
                inputs = outputs
        feature += blocks
    table.conv('features.18.0', 'backbone.conv2.conv', 1280, inputs, 1)
    table.norm('features.18.1', 'backbone.conv2.bn', 1280)
    table.classifier('classifier.1', 1280)
    return table
