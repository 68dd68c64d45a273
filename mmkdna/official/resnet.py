"""The tensors of the authors' ResNets."""
from __future__ import annotations

from .table import Table


def resnet18() -> Table:
    """List the tensors of ResNet-18.

    Returns:
        Table: Its entries.
    """
    table = Table()
    table.conv('conv1', 'backbone.conv1', 64, 3, 7)
    table.norm('bn1', 'backbone.bn1', 64)
    inputs = 64
    for stage, channels in (('layer1', 64), ('layer2', 128)):
        for block in (0, 1):
            theirs = f'{stage}.{block}'
            ours = f'backbone.{theirs}'
            table.conv(f'{theirs}.conv1', f'{ours}.conv1', channels, inputs, 3)
            table.norm(f'{theirs}.bn1', f'{ours}.bn1', channels)
            table.conv(f'{theirs}.conv2', f'{ours}.conv2', channels, channels,
                       3)
            table.norm(f'{theirs}.bn2', f'{ours}.bn2', channels)
            if inputs != channels:
                table.conv(f'{theirs}.downsample.0', f'{ours}.downsample.0',
                           channels, inputs, 1)
                table.norm(f'{theirs}.downsample.1', f'{ours}.downsample.1',
                           channels)
            inputs = channels
    for stage, channels in (('layer3', 256), ('layer4', 512)):
        ours = f'backbone.{stage}'
        table.conv(f'{stage}.conv1', f'{ours}.0.conv1', channels, inputs, 3)
        table.norm(f'{stage}.bn1', f'{ours}.0.bn1', channels)
        table.conv(f'{stage}.downsample.0', f'{ours}.0.downsample.0', channels,
                   inputs, 1)
        table.norm(f'{stage}.downsample.1', f'{ours}.0.downsample.1', channels)
        for child, (block, place) in enumerate(((0, 2), (1, 1), (2, 1))):
            table.adapter3x3(stage, 'static_filter_attn', child, 3,
                             f'{stage}.se.{child}.se',
                             f'{ours}.{block}.conv{place}', channels)
            table.norm(f'{stage}.bns.{child}', f'{ours}.{block}.bn{place}',
                       channels)
        for parent, block in ((2, 1), (3, 2)):
            table.conv(f'{stage}.conv{parent}', f'{ours}.{block}.conv2',
                       channels, channels, 3)
            table.norm(f'{stage}.bn{parent}', f'{ours}.{block}.bn2', channels)
        inputs = channels
    table.classifier('fc', 512)
    return table


def _bottleneck(table: Table,
                modules: dict[str, str],
                ours: str,
                inputs: int,
                channels: int,
                adapter: tuple[str, str, int, int, str] | None = None) -> None:
    """Add a bottleneck.

    Args:
        table (Table): Gets its entries.
        modules (dict[str, str]): The authors' name for each of our modules.
        ours (str): Our name of the block.
        inputs (int): Channels of its input.
        channels (int): Channels of its 3x3, a quarter of its output's.
        adapter (tuple, optional): The first five arguments of
            :meth:`Table.adapter3x3` if the 3x3 is a child.
    """
    table.conv(modules['conv1'], f'{ours}.conv1', channels, inputs, 1)
    table.norm(modules['bn1'], f'{ours}.bn1', channels)
    if adapter is None:
        table.conv(modules['conv2'], f'{ours}.conv2', channels, channels, 3)
    else:
        table.adapter3x3(*adapter, f'{ours}.conv2', channels)
    table.norm(modules['bn2'], f'{ours}.bn2', channels)
    table.conv(modules['conv3'], f'{ours}.conv3', 4 * channels, channels, 1)
    table.norm(modules['bn3'], f'{ours}.bn3', 4 * channels)
    if inputs != 4 * channels:
        table.conv(modules['downsample.0'], f'{ours}.downsample.0',
                   4 * channels, inputs, 1)
        table.norm(modules['downsample.1'], f'{ours}.downsample.1',
                   4 * channels)


def _torchvision_block(name: str) -> dict[str, str]:
    parts = ('conv1', 'bn1', 'conv2', 'bn2', 'conv3', 'bn3', 'downsample.0',
             'downsample.1')
    return {part: f'{name}.{part}' for part in parts}


def _plain_block(name: str) -> dict[str, str]:
    return dict(
        _torchvision_block(f'{name}.layers'), **{
            'downsample.0': f'{name}.downsample.conv',
            'downsample.1': f'{name}.downsample.bn'
        })


def _child_block(name: str) -> dict[str, str]:
    half1, half2 = f'{name}.half1', f'{name}.half2'
    return dict(
        conv1=f'{half1}.conv1',
        bn1=f'{half1}.bn1',
        bn2=f'{half2}.bn2',
        conv3=f'{half2}.conv3',
        bn3=f'{half2}.bn3')


def resnet50() -> Table:
    """List the tensors of ResNet-50.

    Returns:
        Table: Its entries.
    """
    table = Table()
    table.conv('conv1', 'backbone.conv1', 64, 3, 7)
    table.norm('bn1', 'backbone.bn1', 64)
    inputs = 64
    for stage, channels, blocks in (('layer1', 64, 3), ('layer2', 128, 4)):
        for block in range(blocks):
            _bottleneck(table, _torchvision_block(f'{stage}.{block}'),
                        f'backbone.{stage}.{block}', inputs, channels)
            inputs = 4 * channels
    # Behind the first block of a stage stand pairs of child and parent.
    stages = (
        ('layer3', 256, 'static_filter_attn', [(f'kids.{i}', f'parents.{i}')
                                               for i in range(3)]),
        ('layer4', 512, 'static_filter_attn2', [('blocks.0', 'last_block')]),
    )
    for stage, channels, filters, pairs in stages:
        ours = f'backbone.{stage}'
        _bottleneck(table, _plain_block(f'{stage}.block0'), f'{ours}.0',
                    inputs, channels)
        inputs = 4 * channels
        for i, (child, parent) in enumerate(pairs):
            _bottleneck(
                table,
                _child_block(f'{stage}.{child}'),
                f'{ours}.{2 * i + 1}',
                inputs,
                channels,
                adapter=(stage, filters, i, len(pairs),
                         f'{stage}.{child}.half1.se.se'))
            _bottleneck(table, _plain_block(f'{stage}.{parent}'),
                        f'{ours}.{2 * i + 2}', inputs, channels)
    table.classifier('fc', 2048)
    return table
