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

# Both sides of a bottleneck's 3x3 depend on each other.
ROUNDS = 3


class Layer(NamedTuple):
    """A convolution and its norm, by the names of their modules."""
    conv: str
    norm: str


class Hidden(NamedTuple):
    """Channels inside a block: who writes, carries and reads them."""
    producer: Layer
    carriers: List[Layer]
    consumer: Layer


def block_layers(name, block):
    """The main path of a residual block of a host library.

    Args:
        name (str): Name of the block.
        block (nn.Module): Any module.

    Returns:
        list[Layer]: In forward order; empty if it is no such block, or one
        with more in it than convolutions and norms.
    """
    if getattr(block, 'with_plugins', False):
        return []
    if hasattr(block, 'norm1_name') and hasattr(block, 'conv2'):
        return [
            Layer(f'{name}.conv{i}',
                  f'{name}.' + getattr(block, f'norm{i}_name'))
            for i in (1, 2, 3) if hasattr(block, f'conv{i}')
        ]
    steps = ['expand_conv', 'depthwise_conv', 'linear_conv']
    if not hasattr(block, steps[-1]):
        if not type(block).__name__ == 'InvertedResidual':
            return []
        steps = [f'conv.{i}' for i in range(len(block.conv))]
    modules = dict(block.named_modules())
    return [
        Layer(f'{name}.{step}.conv',
              f'{name}.{step}.{modules[step].norm_name}') for step in steps
        if step in modules
    ]


def hidden_channels(layers, convs):
    """Where a block's channels may be permuted.

    Args:
        layers (list[Layer]): The block's main path.
        convs (dict[str, nn.Conv2d]): Convolutions by name.

    Returns:
        list[Hidden]: From each dense convolution to the next one; depthwise
        convolutions between carry the channels along.
    """
    found, producer, carriers = [], None, []
    for layer in layers:
        conv = convs.get(layer.conv)
        if conv is None:
            return []
        if producer is not None and conv.groups == conv.in_channels > 1:
            carriers.append(layer)
            continue
        if producer is not None and conv.groups == 1:
            found.append(Hidden(producer, carriers, layer))
        producer, carriers = (layer if conv.groups == 1 else None), []
    return found


def align(state_dict, prefix, hiddens, parents):
    """Permute a block's hidden channels towards the parents' kernels.

    Args:
        state_dict (dict): Plain weights, changed in place.
        prefix (str): Of the keys of the backbone, neck or head.
        hiddens (list[Hidden]): Hidden channels of a block without a parent.
        parents (dict[str, str]): Names of the block's children to those of
            their parents.
    """
    hiddens = [
        hidden for hidden in hiddens
        if {hidden.producer.conv, hidden.consumer.conv} & set(parents)
    ]
    for _ in range(ROUNDS if len(hiddens) > 1 else 1):
        for hidden in hiddens:
            likeness = 0
            for conv, dim in ((hidden.producer.conv, 0), (hidden.consumer.conv,
                                                          1)):
                if conv in parents:
                    own, parents_own = (
                        F.normalize(
                            state_dict[f'{prefix}{name}.weight'].transpose(
                                0, dim).flatten(1).float())
                        for name in (conv, parents[conv]))
                    likeness = likeness + parents_own @ own.t()
            order = linear_sum_assignment(-likeness.cpu().numpy())[1]
            _permute(state_dict, prefix, hidden, torch.from_numpy(order))


def _permute(state_dict, prefix, hidden, order):
    keys = [f'{hidden.producer.conv}.weight', f'{hidden.producer.conv}.bias']
    keys += [f'{layer.conv}.weight' for layer in hidden.carriers]
    keys += [
        f'{layer.norm}.{name}' for layer in (hidden.producer, *hidden.carriers)
        for name in ('weight', 'bias', 'running_mean', 'running_var')
    ]
    for key in keys:
        if prefix + key in state_dict:
            state_dict[prefix + key] = state_dict[prefix + key][order]
    key = f'{prefix}{hidden.consumer.conv}.weight'
    state_dict[key] = state_dict[key][:, order]
