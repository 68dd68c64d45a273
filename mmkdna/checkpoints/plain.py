"""Ordinary pretrained weights, taken by a linked module."""
from typing import NamedTuple

import torch
from mmengine.logging import print_log
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..conv import KernelDNAConv2d
from .alignment import align, block_layers, hidden_channels


class Fit(NamedTuple):
    """How well a child's kernel comes back from its parent's.

    Attributes:
        child (str): Name of the child.
        parent (str): Name of its parent.
        error (float): Norm of the difference between the derived kernel and
            the pretrained one, over that of the pretrained one.
        cosine (float): Mean over filters of the cosine between the two.
    """
    child: str
    parent: str
    error: float
    cosine: float


def accept_plain_weights(module):
    """Have a module take the weights of the plain network it is made from.

    From then on, whatever loads a state dict into ``module`` or into a model
    around it, be it ``init_cfg``, ``load_from`` or an inference function, may
    bring plain weights, in the key layout of the host library or, for a
    MobileNetV2, of torchvision. Plain convolutions and parents take theirs
    exactly. For a child, the hidden channels of its block are permuted to
    match the parent's kernel, the static modulation is set to keep the norm
    of each filter, and the gate starts neutral: at 0.5, with ``fc2`` at zero
    and the factor 2 in the filters, so that it is not saturated. A residual
    block that the weights do not have starts as the identity. The log says
    what was done. A state dict with adapters in it is loaded as it is.

    Args:
        module (nn.Module): A linked backbone, neck or head.
    """
    hooks = module._load_state_dict_pre_hooks.values()
    if all(getattr(hook, 'hook', None) is not _take for hook in hooks):
        module._register_load_state_dict_pre_hook(_take, with_module=True)


def _take(module, state_dict, prefix, *_):
    convs = {n: c for n, c in module.named_modules() if type(c) in CONVS}
    children = {
        name: conv.parent_name
        for name, conv in convs.items()
        if isinstance(conv, KernelDNAConv2d) and conv.role == 'child'
    }
    own = [key for key in state_dict if key.startswith(prefix)]
    if not own or any('.adapter.' in key for key in own):
        return
    _rename_mobilenet(module, state_dict, prefix)
    children = {
        child: parent
        for child, parent in children.items()
        if f'{prefix}{child}.weight' in state_dict
    }
    _give_to_parents_without(state_dict, prefix, children)
    blocks = [
        layers for layers in (block_layers(name, block)
                              for name, block in module.named_modules())
        if layers
    ]
    new = _start_as_identity(state_dict, prefix, blocks)
    parents = set(children.values())
    for layers in blocks:
        names = [layer.conv for layer in layers]
        kin = {n: children[n] for n in names if n in children}
        shared = {n: parent for n, parent in kin.items() if n != parent}
        if shared and not parents & set(names):
            align(state_dict, prefix, hidden_channels(layers, convs), shared)
    fits = [
        _fit(convs[child], child, parent, state_dict, prefix)
        for child, parent in children.items()
    ]
    _report(type(module).__name__, fits, new)


CONVS = (nn.Conv2d, KernelDNAConv2d)


def _give_to_parents_without(state_dict, prefix, children):
    """A parent the weights do not have takes the kernel of a child."""
    for child, parent in children.items():
        key = f'{prefix}{parent}.weight'
        if key not in state_dict:
            state_dict[key] = state_dict[f'{prefix}{child}.weight'].clone()


def _start_as_identity(state_dict, prefix, blocks):
    """Set the last norm of a missing block to zero; return their names."""
    new = []
    for layers in blocks:
        keys = [f'{prefix}{name}.weight' for layer in layers for name in layer]
        keys_of_norms = [f'{prefix}{layer.norm}.weight' for layer in layers]
        # Of a parent, the kernel may have been given by its child.
        if not any(key in state_dict for key in keys_of_norms):
            new.append(layers[0].conv.rpartition('.')[0])
            reference = next(iter(state_dict.values()))
            channels = _channels(state_dict, prefix, layers, blocks)
            if channels:
                state_dict[keys[-1]] = reference.new_zeros(
                    channels, dtype=torch.float32)
    return new


def _channels(state_dict, prefix, layers, blocks):
    stage = layers[0].conv.split('.')[0] + '.'
    for other in blocks:
        key = f'{prefix}{other[-1].norm}.weight'
        if other[0].conv.startswith(stage) and key in state_dict:
            return state_dict[key].numel()
    return 0


def _fit(conv, child, parent, state_dict, prefix):
    """Replace a child's kernel by an adapter to its parent's."""
    key = f'{prefix}{child}.weight'
    kernel = state_dict[key].float()
    adapter = conv.adapter
    gain = 1 if adapter.gate is None else 2
    if child == parent:
        filters, spatial = gain, 1
        derived = kernel
    else:
        del state_dict[key]
        source = state_dict[f'{prefix}{parent}.weight'].float()
        spatial = 1
        if adapter.spatial is not None:
            spatial = _norm(kernel, (0, 1)) / _norm(source, (0, 1))
        filters = 1
        if adapter.filter is not None:
            filters = _norm(kernel, (1, 2, 3)) / _norm(source * spatial,
                                                       (1, 2, 3))
            derived = source * spatial * filters
            filters = filters * gain
        else:
            derived = source * spatial / gain
    values = dict(adapter.state_dict())
    if adapter.filter is not None:
        values['filter'] = torch.zeros_like(adapter.filter) + filters - 1
    if adapter.spatial is not None:
        values['spatial'] = torch.zeros_like(adapter.spatial) + spatial - 1
    if adapter.gate is not None:
        for name in ('gate.fc2.weight', 'gate.fc2.bias'):
            values[name] = torch.zeros_like(values[name])
    for name, value in values.items():
        state_dict[f'{prefix}{child}.adapter.{name}'] = value
    if 'own_weight' in conv._buffers:
        state_dict[f'{prefix}{child}.own_weight'] = kernel * gain
        state_dict[f'{prefix}{child}.own_share'] = kernel.new_ones(())
    error = (derived - kernel).norm() / kernel.norm()
    cosine = nn.functional.cosine_similarity(
        derived.flatten(1), kernel.flatten(1)).mean()
    return Fit(child, parent, float(error), float(cosine))


def _norm(tensor, dims):
    return tensor.pow(2).sum(dims, keepdim=True).sqrt().clamp(min=1e-12)


def _rename_mobilenet(module, state_dict, prefix):
    """Give a MobileNetV2's keys the names they have in a module.

    torchvision, mmdet and mmpretrain hold the same layers in the same order
    under three names.
    """
    if not type(module).__name__.endswith('MobileNetV2'):
        return
    ours = []
    for name, layer in module.named_modules():
        if type(layer) in CONVS:
            ours.append((f'{name}.weight', layer.out_channels))
        # The norms of gates have no counterpart.
        elif isinstance(layer, _BatchNorm) and '.adapter.' not in name:
            ours.extend(
                (f'{name}.{part}', layer.num_features)
                for part in ('weight', 'bias', 'running_mean', 'running_var'))
    theirs = [
        key for key in state_dict
        if key.startswith(prefix) and not key.endswith('num_batches_tracked')
    ]
    if any(prefix + key not in state_dict for key, _ in ours):
        renamed = {}
        for (key, channels), their_key in zip(ours, theirs):
            if state_dict[their_key].shape[:1] != (channels, ):
                return
            renamed[prefix + key] = their_key
        values = {k: state_dict.pop(other) for k, other in renamed.items()}
        state_dict.update(values)


def _report(module, fits, new):
    lines = []
    shared = [fit for fit in fits if fit.child != fit.parent]
    if shared:
        width = max(len(fit.child) for fit in shared)
        lines.append(f'KernelDNA: {module} takes plain weights. Parents and '
                     'plain convolutions have theirs exactly; the kernels of '
                     'the children became adapters:')
        lines += [
            f'  {fit.child:{width}} from {fit.parent:{width}} relative error '
            f'{fit.error:.3f}, cosine {fit.cosine:.3f}' for fit in shared
        ]
    elif fits:
        lines.append(f'KernelDNA: {module} takes plain weights exactly; '
                     f'{len(fits)} convolutions have a neutral adapter.')
    if new:
        lines.append(f'KernelDNA: {module} has blocks that the weights do not '
                     f'have and that start as the identity: {", ".join(new)}')
    if lines:
        print_log('\n'.join(lines), logger='current')
