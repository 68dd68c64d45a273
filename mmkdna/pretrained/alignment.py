"""The order of hidden channels, in which kernels of two layers differ first.

Between two convolutions of one block nobody sees in which order the channels
come: permuting them changes no output. So before a child's kernel is compared
with its parent's, the hidden channels of its block are put into the order that
makes the two most alike.
"""
from typing import List, NamedTuple

import torch
from scipy.optimize import linear_sum_assignment
from torch.nn import functional as F

from ..hosts import Layer

# Both sides of a bottleneck's 3x3 depend on each other.
ROUNDS = 3

# What norms have per channel: batch norms, and MMPretrain's global response
# normalization.
NORM_KEYS = ('weight', 'bias', 'running_mean', 'running_var')
GRN_KEYS = ('gamma', 'beta')


class Hidden(NamedTuple):
    """Channels inside a block: who writes, carries and reads them."""
    producer: Layer
    carriers: List[Layer]
    consumer: Layer


def hidden_channels(layers, modules):
    """Where a block's channels may be permuted.

    Args:
        layers (list[Layer]): The block's main path.
        modules (dict[str, nn.Module]): Its convolutions are among them, by
            name.

    Returns:
        list[Hidden]: From each dense convolution to the next one; depthwise
        convolutions between carry the channels along.
    """
    found, producer, carriers = [], None, []
    for layer in layers:
        conv = modules[layer.conv]
        if producer is not None and conv.groups == conv.in_channels > 1:
            carriers.append(layer)
            continue
        if producer is not None and conv.groups == 1:
            found.append(Hidden(producer, carriers, layer))
        producer, carriers = (layer if conv.groups == 1 else None), []
    return found


def align(weights, hiddens, parents):
    """Permute a block's hidden channels towards the parents' kernels.

    Args:
        weights (dict[str, Tensor]): Plain weights of the backbone, neck or
            head, by the keys they have there. Changed in place.
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
            likeness = sum(
                _likeness(weights, conv, parents[conv], dim, either_order)
                for conv, dim in ((hidden.producer.conv, 0),
                                  (hidden.consumer.conv, 1))
                if conv in parents)
            order = linear_sum_assignment(-likeness.cpu().numpy())[1]
            _permute(weights, hidden, torch.from_numpy(order))


def _likeness(weights, child, parent, dim, either_order):
    """Cosines between the channels of two kernels.

    Args:
        weights (dict[str, Tensor]): Plain weights.
        child (str): Name of one convolution.
        parent (str): Name of the other.
        dim (int): 0 for output channels, 1 for input channels.
        either_order (bool): Whether what is compared shall not depend on the
            order of the channels of the other side.

    Returns:
        Tensor: Shape (channels of the parent, channels of the child).
    """
    child, parent = (
        weights[f'{name}.weight'].transpose(0, dim).float()
        for name in (child, parent))
    if either_order:
        child, parent = child.sort(1).values, parent.sort(1).values
    return (F.normalize(parent.flatten(1)) @ F.normalize(child.flatten(1)).t())


def _permute(weights, hidden, order):
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
