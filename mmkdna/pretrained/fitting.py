"""Blocks with children fitted, on images, to what plain weights computed."""
from __future__ import annotations
from contextlib import contextmanager
from copy import deepcopy
from typing import Any, Callable, Iterator, Sequence

import torch
from mmengine.dist import all_reduce, all_reduce_params
from mmengine.logging import print_log
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.hooks import RemovableHandle

from ..hosts import Layer, block_layers, shortcut
from ..sharing import children_of

# What is added to the variance of each feature, relative to their mean
# variance, so that features that always come together have a solution.
RIDGE = 1e-3


@torch.no_grad()
def fit_children(model: nn.Module, batches: Sequence[Tensor],
                 forward: Callable) -> dict[str, float | None]:
    """Move children to their derived kernels and make up for it.

    Plain pretrained kernels of two layers have little in common, so a child's
    block computes something else once its kernel is derived. For each such
    block, from the first to the last, this sees the same images through the
    plain network and through the one with derived kernels; it re-estimates
    the block's batch-norm statistics and, where its last convolution is a
    plain 1x1, replaces that by the least-squares solution that makes the
    block's output what it was, errors of the blocks before included. Labels
    play no part.

    Args:
        model (nn.Module): A model whose children keep their own kernel, with
            plain weights loaded. Changed in place; its children have derived
            kernels only afterwards.
        batches (Sequence[Tensor]): Inputs of ``forward``,
            shape (N, 3, H, W). They may lie anywhere: one at a time is copied
            to where the model is.
        forward (callable): Runs the model on a batch, a bound method of
            ``model``.

    Returns:
        dict[str, float | None]: By block, the share of the variance of the
        plain block's output that the fitted one explains; None where only
        statistics could be re-estimated.

    Raises:
        ValueError: If no block with children has norms.
    """
    blocks = _blocks_to_fit(model)
    if not blocks:
        raise ValueError(
            f'a {type(model).__name__} is to be fitted, but none of its '
            'blocks with children consists of convolutions and their norms, '
            'as those of ResNet and MobileNetV2 do: KernelSharingHook lets '
            'children move to their derived kernels in any network')
    training = {module: module.training for module in model.modules()}
    model.eval()
    plain = deepcopy(model)
    run_plain = getattr(plain, forward.__name__)
    children = _own_kernel_children(model)
    for child in children:
        child.own_share.zero_()
    explained = {}
    for name, layers in blocks.items():
        explained[name] = _fit_block(model, plain, name, layers, batches,
                                     (forward, run_plain))
    for child in children:
        child.drop_own_weight()
    for module, mode in training.items():
        module.training = mode
    said = ', '.join(
        f'{name} {"statistics only" if share is None else f"{share:.3f}"}'
        for name, share in explained.items())
    print_log(
        'KernelDNA: share of the variance of each block\'s plain output that '
        f'is explained after fitting: {said}',
        logger='current')
    return explained


def training_inputs(model: nn.Module, batch: dict | tuple | list) -> Tensor:
    """Make the pictures of a batch of the train dataloader as training does.

    They are padded to one size, which mmseg does in training only; what mixes
    or resizes whole batches is left out.

    Args:
        model (nn.Module): A model with a data preprocessor.
        batch (dict | tuple | list): What the dataloader gives.

    Returns:
        Tensor: Shape (N, 3, H, W).
    """
    preprocessor: Any = model.data_preprocessor
    augments = getattr(preprocessor, 'batch_augments', None)
    if augments is None:
        return preprocessor(batch, True)['inputs']
    preprocessor.batch_augments = None
    try:
        return preprocessor(batch, True)['inputs']
    finally:
        preprocessor.batch_augments = augments


def _own_kernel_children(module: nn.Module) -> list:
    return [c for c in children_of(module) if c.keeps_own_kernel]


def _blocks_to_fit(model: nn.Module) -> dict[str, list[Layer]]:
    """Find the blocks whose children keep their own kernel.

    Returns:
        dict[str, list[Layer]]: The main path of each by its name, in forward
        order.
    """
    blocks = {
        name: block_layers(name, block)
        for name, block in model.named_modules() if _own_kernel_children(block)
    }
    # A ConvNeXt's convolutions have no norms to be re-estimated.
    return {
        name: layers
        for name, layers in blocks.items()
        if layers and layers[-1].norm is not None
    }


def _fit_block(model: nn.Module, plain: nn.Module, name: str,
               layers: list[Layer], batches: Sequence[Tensor],
               forwards: tuple[Callable, Callable]) -> float | None:
    """Fit one block.

    Args:
        model (nn.Module): The model, in eval mode; changed in place.
        plain (nn.Module): The same with own kernels.
        name (str): Name of the block.
        layers (list[Layer]): Its main path.
        batches (Sequence[Tensor]): Inputs, shape (N, 3, H, W).
        forwards (tuple[callable]): What runs either of the two.

    Returns:
        float | None: What :meth:`Moments.solve` returns; None if nothing but
        statistics could be fitted.
    """
    ours, theirs = dict(model.named_modules()), dict(plain.named_modules())
    conv, norm = ours[layers[-1].conv], ours[layers[-1].norm]
    norms = [ours[layer.norm] for layer in layers[:-1]]
    norms = [norm for norm in norms if isinstance(norm, _BatchNorm)]
    added = shortcut(ours[name])
    device = next(model.parameters()).device
    moments = Moments()
    with _new_statistics(norms), _watch(
            inputs=ours[name],
            features=conv,
            plain_inputs=theirs[name],
            plain_outputs=theirs[layers[-1].norm]) as seen:
        for batch in batches:
            for run in forwards:
                # A copy even where it lies there already: nothing that a
                # forward writes to its input stays for the next block.
                run(batch.to(device, copy=True))
            target = seen['plain_outputs']
            if added is not None:
                target = target + (
                    added(seen['plain_inputs']) - added(seen['inputs']))
            moments.add(seen['features'], target, conv.stride)
    can_be_solved = (
        conv.kernel_size == (1, 1) and conv.groups == 1 and conv.bias is None
        and isinstance(norm, _BatchNorm)
        and getattr(conv, 'role', 'plain') == 'plain')
    return moments.solve(conv, norm) if can_be_solved else None


@contextmanager
def _watch(inputs: nn.Module, features: nn.Module, plain_inputs: nn.Module,
           plain_outputs: nn.Module) -> Iterator[dict[str, Tensor]]:
    """Note what goes into three modules and comes out of a fourth.

    Yields:
        dict[str, Tensor]: By argument, what the last forward had there.
    """
    seen: dict[str, Tensor] = {}

    def note_input(key: str, module: nn.Module) -> RemovableHandle:
        return module.register_forward_pre_hook(
            lambda _, args: seen.__setitem__(key, args[0]))

    handles = [
        note_input('inputs', inputs),
        note_input('features', features),
        note_input('plain_inputs', plain_inputs),
        # A copy, since blocks add the shortcut in place.
        plain_outputs.register_forward_hook(
            lambda _, args, out: seen.update(plain_outputs=out.clone()))
    ]
    try:
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _new_statistics(norms: list[_BatchNorm]) -> Iterator[None]:
    """Have batch norms in eval mode average the statistics of what they see.

    With several processes they are those of what all of these see.
    """
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    yield
    for norm, momentum in zip(norms, momenta):
        norm.eval()
        norm.momentum = momentum
        all_reduce_params([norm.running_mean, norm.running_var], op='mean')


class Moments:
    """First and second moments of features and targets, over all batches."""

    def __init__(self) -> None:
        # Of a one, the features and the targets, in this order, in float64.
        self.sums = torch.zeros(())

    def add(self, features: Tensor, target: Tensor,
            stride: tuple[int, int]) -> None:
        """Add those of a batch.

        Args:
            features (Tensor): What a 1x1 convolution reads, shape
                (N, C, H, W).
            target (Tensor): What its norm is to give, shape (N, D, H', W').
            stride (tuple[int]): Stride of the convolution.
        """
        features = features[..., ::stride[0], ::stride[1]]
        both = torch.cat([features, target], 1).transpose(0, 1).flatten(1)
        both = torch.cat([both.new_ones(1, both.shape[1]), both]).double()
        self.sums = self.sums + both @ both.t()

    def solve(self, conv: nn.Conv2d, norm: Any) -> float:
        """Give a 1x1 convolution and its norm the least-squares solution.

        The norm's statistics become those of what it reads, and its factor
        and bias undo them, but for the mean of the targets.

        Args:
            conv (nn.Conv2d): Reads the features; changed in place.
            norm (_BatchNorm): Gives the targets; changed in place.

        Returns:
            float: The share of the variance of the targets that is explained.
        """
        sums = self.sums
        all_reduce(sums)
        count = sums[0, 0]
        mean = sums[0, 1:] / count
        covariance = sums[1:, 1:] / count - mean[:, None] * mean
        split = conv.in_channels
        gram, cross = covariance[:split, :split], covariance[:split, split:]
        ridge = RIDGE * gram.diagonal().mean().clamp(min=1e-12)
        regular = gram + ridge * torch.eye(split).to(gram)
        solution = torch.linalg.solve(regular, cross).t()
        variance = (solution @ gram * solution).sum(1)
        conv.weight.copy_(solution[:, :, None, None])
        norm.running_mean.copy_(solution @ mean[:split])
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean[split:])
        total = covariance[split:, split:].diagonal().sum()
        error = total - 2 * (solution * cross.t()).sum() + variance.sum()
        return float(1 - error / total)
