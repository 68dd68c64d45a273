"""Blocks with children fitted, on images, to what plain weights computed."""
from copy import deepcopy

import torch
from mmengine.dist import all_reduce, all_reduce_params
from mmengine.logging import print_log
from torch.nn.modules.batchnorm import _BatchNorm

from ..conv import KernelDNAConv2d
from ..hosts import block_layers, shortcut

# Relative to the mean variance of the features, added to each variance.
RIDGE = 1e-3


@torch.no_grad()
def fit_children(model, batches, forward):
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
            shape (N, 3, H, W).
        forward (callable): Runs the model on a batch, a bound method of
            ``model``.

    Returns:
        dict[str, float | None]: By block, the share of the variance of the
        plain block's output that the fitted one explains; None where only
        statistics could be re-estimated.

    Raises:
        ValueError: If no block with children has norms.
    """
    blocks = {
        name: layers
        for name, layers in ((name, block_layers(name, block))
                             for name, block in model.named_modules()
                             if _with_own_kernel(block))
        # A ConvNeXt's convolutions have none to be re-estimated.
        if layers and layers[-1].norm is not None
    }
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
    for conv in _with_own_kernel(model):
        conv.own_share.zero_()
    explained = {}
    for name, layers in blocks.items():
        explained[name] = _fit_block(model, plain, name, layers, batches,
                                     (forward, run_plain))
    for conv in _with_own_kernel(model):
        conv.drop_own_weight()
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


def training_inputs(model, batch):
    """The pictures of a batch of the train dataloader, as training sees them.

    Padded to one size, which mmseg does in training only, and without what
    mixes or resizes whole batches.

    Args:
        model (nn.Module): A model with a data preprocessor.
        batch (dict | tuple | list): What the dataloader gives.

    Returns:
        Tensor: Shape (N, 3, H, W).
    """
    preprocessor = model.data_preprocessor
    augments = getattr(preprocessor, 'batch_augments', None)
    if augments is None:
        return preprocessor(batch, True)['inputs']
    preprocessor.batch_augments = None
    try:
        return preprocessor(batch, True)['inputs']
    finally:
        preprocessor.batch_augments = augments


def _with_own_kernel(module):
    return [
        conv for conv in module.modules()
        if isinstance(conv, KernelDNAConv2d) and 'own_weight' in conv._buffers
    ]


def _fit_block(model, plain, name, layers, batches, forwards):
    ours, theirs = dict(model.named_modules()), dict(plain.named_modules())
    last, last_norm = ours[layers[-1].conv], ours[layers[-1].norm]
    norms = [ours[layer.norm] for layer in layers[:-1]]
    norms = [norm for norm in norms if isinstance(norm, _BatchNorm)]
    seen = {}

    def see(key, module, at_input):
        if at_input:
            return module.register_forward_pre_hook(
                lambda _, args: seen.__setitem__(key, args[0]))
        # Blocks add the shortcut in place.
        return module.register_forward_hook(
            lambda _, args, out: seen.__setitem__(key, out.clone()))

    handles = [
        see('input', ours[name], True),
        see('features', last, True),
        see('plain input', theirs[name], True),
        see('plain output', theirs[layers[-1].norm], False)
    ]
    sums = _Sums()
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
        norm.train()
    for batch in batches:
        for run in forwards:
            run(batch)
        target = seen['plain output']
        added = shortcut(ours[name])
        if added is not None:
            target = target + (
                added(seen['plain input']) - added(seen['input']))
        sums.add(seen['features'], target, last.stride)
    for norm, momentum in zip(norms, momenta):
        norm.eval()
        norm.momentum = momentum
        all_reduce_params([norm.running_mean, norm.running_var], op='mean')
    for handle in handles:
        handle.remove()
    fits = (
        last.kernel_size == (1, 1) and last.groups == 1 and last.bias is None
        and isinstance(last_norm, _BatchNorm)
        and getattr(last, 'role', 'plain') == 'plain')
    return sums.solve(last, last_norm) if fits else None


class _Sums:
    """First and second moments of features and targets, over all batches."""

    def __init__(self):
        self.moments = None

    def add(self, features, target, stride):
        features = features[..., ::stride[0], ::stride[1]]
        both = torch.cat([features, target], 1).transpose(0, 1).flatten(1)
        both = torch.cat([both.new_ones(1, both.shape[1]), both]).double()
        moments = both @ both.t()
        self.moments = moments + (0 if self.moments is None else self.moments)

    def solve(self, conv, norm):
        moments = self.moments
        all_reduce(moments)
        count = moments[0, 0]
        mean = moments[0, 1:] / count
        covariance = moments[1:, 1:] / count - mean[:, None] * mean
        split = conv.in_channels
        gram, cross = covariance[:split, :split], covariance[:split, split:]
        ridge = RIDGE * gram.diagonal().mean().clamp(min=1e-12)
        gram = gram + ridge * torch.eye(split).to(gram)
        solution = torch.linalg.solve(gram, cross).t()
        variance = (solution @ covariance[:split, :split] * solution).sum(1)
        conv.weight.copy_(solution[:, :, None, None])
        norm.running_mean.copy_(solution @ mean[:split])
        norm.running_var.copy_(variance)
        norm.weight.copy_((variance + norm.eps).sqrt())
        norm.bias.copy_(mean[split:])
        total = covariance[split:, split:].diagonal().sum()
        error = (total - 2 * (solution * cross.t()).sum() + variance.sum())
        return float(1 - error / total)
