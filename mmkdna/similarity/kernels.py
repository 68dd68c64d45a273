"""How alike the kernels of convolutions are that could share one."""
from __future__ import annotations
from collections import defaultdict
from dataclasses import dataclass
from typing import Dict, Iterator, List, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..conv import KernelDNAConv2d
from ..hosts import Layer, block_layers, block_name
from ..linking import stage_of
from ..pretrained.alignment import align_blocks

# Kernels of noise that each kernel is compared with.
NUM_NOISES = 3


@dataclass(frozen=True)
class KernelPair:
    """Two convolutions of which one could derive its kernel from the other.

    Attributes:
        conv (str): Name of the one, which would be the child.
        other (str): Name of the other.
        stage (str): That of both, the leading parts of their names.
        cosine (float): Cosine between the two kernels as they are.
        distance (float): What is left of the kernel, as a share of its norm,
            once the channels inside its block are in the order that suits the
            other best, and each filter of the other has its best factor.
            Where both are in one block, the order stays.
        noise (float): The same with Gaussian noise in the other's place, mean
            of 3. Two kernels are alike as far as ``distance`` is below it.
    """
    conv: str
    other: str
    stage: str
    cosine: float
    distance: float
    noise: float


class Block(NamedTuple):
    """Where a convolution stands.

    Attributes:
        name (str): Name of the block.
        layers (list[Layer]): Its main path; empty if the block is none whose
            channels may be put into another order.
        modules (dict[str, nn.Module]): What is in it, by name in the model.
    """
    name: str
    layers: List[Layer]
    modules: Dict[str, nn.Module]


@torch.no_grad()
def compare_kernels(model: nn.Module,
                    stage_level: int = 2) -> list[KernelPair]:
    """Compare the kernels of all convolutions that could share one.

    These are the dense ones of one shape in one stage, pointwise ones among
    them. Children are left out, since their kernel is a parent's.

    Args:
        model (nn.Module): A model of a host library, or any other module.
        stage_level (int): How many leading parts of a convolution's name make
            its stage. Defaults to 2, as in ``backbone.layer3``.

    Returns:
        list[KernelPair]: In both directions, in the order of the modules.
    """
    kin: dict[tuple, list[str]] = defaultdict(list)
    convs = dict(_kernel_owners(model))
    for name, conv in convs.items():
        kin[(stage_of(name, stage_level), conv.weight.shape)].append(name)
    modules = dict(model.named_modules())
    generator = torch.Generator().manual_seed(0)
    pairs = []
    for name, conv in convs.items():
        stage = stage_of(name, stage_level)
        others = kin[(stage, conv.weight.shape)]
        if len(others) < 2:
            continue
        block = _block_of(name, modules)
        noises = [
            torch.randn(conv.weight.shape, generator=generator).to(conv.weight)
            for _ in range(NUM_NOISES)
        ]
        path = {layer.conv for layer in block.layers}
        # Noise is treated as the other is, which is not aligned with what is
        # in its own block.
        noise: dict[bool, float] = {}
        for other in others:
            if other == name:
                continue
            if (other in path) not in noise:
                noise[other in path] = sum(
                    _distance(block, name, other, kernel)
                    for kernel in noises) / NUM_NOISES
            pairs.append(
                KernelPair(name, other, '.'.join(stage),
                           _cosine(conv.weight, convs[other].weight),
                           _distance(block, name, other, convs[other].weight),
                           noise[other in path]))
    return pairs


def _kernel_owners(model: nn.Module) -> Iterator[tuple[str, nn.Conv2d]]:
    """Find the dense convolutions that own a kernel."""
    for name, conv in model.named_modules():
        if (isinstance(conv, nn.Conv2d) and conv.groups == 1
                and 'weight' in conv._parameters
                and not (isinstance(conv, KernelDNAConv2d)
                         and conv.role == 'child')):
            yield name, conv


def _cosine(kernel: Tensor, other: Tensor) -> float:
    return float(
        F.cosine_similarity(
            kernel.double().flatten(), other.double().flatten(), dim=0))


def _block_of(name: str, modules: dict[str, nn.Module]) -> Block:
    """Find the block in which a convolution stands."""
    block = block_name(name)
    inside = {
        other: module
        for other, module in modules.items()
        if other == name or other.startswith(f'{block}.')
    }
    return Block(block, block_layers(block, modules.get(block)), inside)


def _distance(block: Block, name: str, other: str, kernel: Tensor) -> float:
    """What is left of a kernel that is made from another one.

    Args:
        block (Block): That of the kernel.
        name (str): Name of the kernel's convolution.
        other (str): Name of the other's.
        kernel (Tensor): The other kernel, or noise in its place.

    Returns:
        float: See :class:`KernelPair`.
    """
    weights = {
        f'{part}.{key}': value
        for part, module in block.modules.items()
        for key, value in module.state_dict(keep_vars=True).items()
    }
    weights[f'{other}.weight'] = kernel
    align_blocks(weights, block.modules, {block.name: block.layers},
                 {name: other})
    ours = weights[f'{name}.weight'].double().flatten(1)
    theirs = kernel.double().flatten(1)
    cosines = F.cosine_similarity(ours, theirs)
    norms = ours.pow(2).sum(1)
    left = (norms * (1 - cosines.pow(2)).clamp(min=0)).sum()
    return float((left / norms.sum().clamp(min=1e-300)).sqrt())
