"""The order of hidden channels, in which kernels of two layers differ first.

Between two convolutions of one block nobody sees in which order the channels
come: permuting them changes no output. So before a child's kernel is compared
with its parent's, the hidden channels of its block are put into the order that
makes the two most alike.
"""
from __future__ import annotations
from typing import List, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torch.nn import functional as F

from ..hosts import Layer
from .layouts import (GRN_KEYS, NORM_KEYS, Blocks, Modules, Weights,
                      has_tensor, plain_shapes)

# How often the two sides of a bottleneck's 3x3 are permuted in turns: the best
# order of one depends on that of the other.
ROUNDS = 3


class Hidden(NamedTuple):
    """Channels inside a block.

    Attributes:
        producer (Layer): The convolution whose outputs they are.
        carriers (list[Layer]): Depthwise convolutions behind it.
        consumer (Layer): The convolution whose inputs they are.
    """
    producer: Layer
    carriers: List[Layer]
    consumer: Layer


def align_blocks(weights: Weights, modules: Modules, blocks: Blocks,
                 children: dict[str, str]) -> list[str]:
    """Align each block that has children of another block and no parent.

    A block is left as it is if the weights do not have all of it, or if a norm
    in it sees which channels come together.

    Args:
        weights (dict[str, Tensor]): Plain weights by key, parents' kernels
            among them; changed in place.
        modules (dict[str, nn.Module]): Those of the unit, by name.
        blocks (dict[str, list[Layer]]): Main path of each residual block, by
            the name of the block.
        children (dict[str, str]): Names of children to those of their parents.

    Returns:
        list[str]: Names of the aligned blocks.
    """
    shapes = plain_shapes(modules)
    parents = set(children.values())
    aligned = []
    for block, layers in blocks.items():
        names = {name for layer in layers for name in layer} - {None}
        shared = {
            child: parent
            for child, parent in children.items()
            if child in names and child != parent
        }
        keys = [key for key in shapes if key.rpartition('.')[0] in names]
        # A norm that sees the order of channels has no shapes there.
        may_be_permuted = {key.rpartition('.')[0] for key in keys} == names
        if (shared and may_be_permuted and not parents & names
                and all(has_tensor(weights, key, shapes[key])
                        for key in keys)):
            align(weights, hidden_channels(layers, modules), shared)
            aligned.append(block)
    return aligned


def hidden_channels(layers: list[Layer], modules: Modules) -> list[Hidden]:
    """Find where a block's channels may be permuted.

    Args:
        layers (list[Layer]): The block's main path.
        modules (dict[str, nn.Module]): Its convolutions are among them, by
            name.

    Returns:
        list[Hidden]: From each dense convolution to the next one; depthwise
        convolutions between carry the channels along.
    """
    found: list[Hidden] = []
    producer: Layer | None = None
    carriers: list[Layer] = []
    for layer in layers:
        conv = modules[layer.conv]
        if producer is not None and conv.groups == conv.in_channels > 1:
            carriers.append(layer)
            continue
        if producer is not None and conv.groups == 1:
            found.append(Hidden(producer, carriers, layer))
        producer, carriers = (layer if conv.groups == 1 else None), []
    return found


def align(weights: Weights, hiddens: list[Hidden], parents: dict[str,
                                                                 str]) -> None:
    """Permute a block's hidden channels towards the parents' kernels.

    Args:
        weights (dict[str, Tensor]): Plain weights by key; changed in place.
        hiddens (list[Hidden]): Hidden channels of a block without a parent.
        parents (dict[str, str]): Names of the block's children to those of
            their parents.
    """
    hiddens = [
        hidden for hidden in hiddens
        if {hidden.producer.conv, hidden.consumer.conv} & set(parents)
    ]
    for number in range(ROUNDS if len(hiddens) > 1 else 1):
        for hidden in hiddens:
            # Nothing is known of the other side's order at first.
            either_order = number == 0 and len(hiddens) > 1
            likeness = torch.stack([
                _likeness(weights, conv, parents[conv], dim, either_order)
                for conv, dim in ((hidden.producer.conv, 0),
                                  (hidden.consumer.conv, 1)) if conv in parents
            ]).sum(0)
            order = linear_sum_assignment(-likeness.cpu().numpy())[1]
            _permute(weights, hidden, torch.from_numpy(order))


def _likeness(weights: Weights, child: str, parent: str, dim: int,
              either_order: bool) -> Tensor:
    """Compute the cosines between the channels of two kernels.

    Args:
        weights (dict[str, Tensor]): Plain weights by key.
        child (str): Name of one convolution.
        parent (str): Name of the other.
        dim (int): 0 for output channels, 1 for input channels.
        either_order (bool): Whether what is compared shall not depend on the
            order of the channels of the other side.

    Returns:
        Tensor: Shape (channels of the parent, channels of the child).
    """
    ours, theirs = (
        weights[f'{name}.weight'].transpose(0, dim).float()
        for name in (child, parent))
    if either_order:
        ours, theirs = ours.sort(1).values, theirs.sort(1).values
    return F.normalize(theirs.flatten(1)) @ F.normalize(ours.flatten(1)).t()


def _permute(weights: Weights, hidden: Hidden, order: Tensor) -> None:
    """Put hidden channels into another order, wherever they appear."""
    keys = [f'{hidden.producer.conv}.weight', f'{hidden.producer.conv}.bias']
    keys += [f'{layer.conv}.weight' for layer in hidden.carriers]
    keys += [
        f'{layer.norm}.{name}' for layer in (hidden.producer, *hidden.carriers)
        for name in (*NORM_KEYS, *GRN_KEYS)
    ]
    for key in keys:
        if key in weights:
            weights[key] = weights[key][order]
    key = f'{hidden.consumer.conv}.weight'
    weights[key] = weights[key][:, order]
