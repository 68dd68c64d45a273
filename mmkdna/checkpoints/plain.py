"""Ordinary pretrained weights, taken by a linked module."""
from typing import NamedTuple

import torch
from mmengine.logging import print_log
from torch import nn
from torch.nn import functional as F
from torch.nn.modules.batchnorm import _BatchNorm

from ..conv import KernelDNAConv2d
from .alignment import (GRN_KEYS, NORM_KEYS, STEPS, align, block_layers,
                        hidden_channels, shortcut)

# What the plain network has; DCN and the like take their weights themselves.
CONVS = (nn.Conv2d, KernelDNAConv2d)
COUNTER = 'num_batches_tracked'
# A gate with fc2 at zero is 0.5.
NEUTRAL = 2
# Of the norms of filters and those of kernel positions.
ROUNDS = 10


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
    and the factor 2 in the static modulation, so that it is not saturated. A
    residual block that the weights do not have starts as the identity. The log
    says what was done. A state dict with adapters in it is loaded as it is.

    Args:
        module (nn.Module): A linked backbone, neck or head.
    """
    hooks = module._load_state_dict_pre_hooks.values()
    if all(getattr(hook, 'hook', None) is not _take for hook in hooks):
        module._register_load_state_dict_pre_hook(_take, with_module=True)


def _take(module, state_dict, prefix, metadata, strict, missing, unexpected,
          errors):
    """What torch calls before it loads a state dict into a module."""
    # From here on without the prefix, and written back at the end.
    weights = {
        key[len(prefix):]: value
        for key, value in state_dict.items() if key.startswith(prefix)
    }
    if not weights:
        return
    modules = dict(module.named_modules())
    weights = _rename_inverted_residuals(modules, weights)
    _make_kernels_of_matrices(modules, weights)
    if not any('.adapter.' in key for key in weights):
        weights = _convert(module, modules, weights, prefix, errors)

    for key in list(state_dict):
        if key.startswith(prefix):
            del state_dict[key]
    for key, value in weights.items():
        state_dict[prefix + key] = value


def _convert(module, modules, weights, prefix, errors):
    """Plain weights as those of a linked module."""
    blocks = {name: block_layers(name, m) for name, m in modules.items()}
    blocks = {name: layers for name, layers in blocks.items() if layers}

    if type(module).__name__.endswith('MobileNetV2'):
        weights = _rename_mobilenet(modules, weights, prefix, errors)
    children = _children_with_weights(modules, weights, prefix, errors)
    _give_to_parents_without(weights, children)
    new = _start_as_identity(weights, modules, blocks)
    _align_blocks(weights, modules, blocks, children)
    fits = [
        _fit(weights, modules[child], child, parent)
        for child, parent in children.items()
    ]
    _report(type(module).__name__, fits, new)
    return weights


def _rename_inverted_residuals(modules, weights):
    """Rename the layers of a MobileNetV2's blocks, with adapters or without.

    mmdet has names for them, mmseg and mmpretrain have numbers.
    """
    new_names = {}
    for name, block in modules.items():
        if hasattr(block, 'linear_conv'):
            steps = [step for step in STEPS if hasattr(block, step)]
            for i, step in enumerate(steps):
                new_names[f'{name}.conv.{i}.'] = f'{name}.{step}.'
        elif isinstance(getattr(block, 'conv', None), nn.Sequential):
            for i, step in enumerate(STEPS[-len(block.conv):]):
                new_names[f'{name}.{step}.'] = f'{name}.conv.{i}.'
    renamed = {}
    for key, value in weights.items():
        for old, new in new_names.items():
            if key.startswith(old):
                key = new + key[len(old):]
                break
        renamed[key] = value
    return renamed


def _make_kernels_of_matrices(modules, weights):
    """Take a linear layer's matrix for the kernel of a 1x1 convolution.

    A ConvNeXt has the one or the other, with adapters or without.
    """
    for name, module in modules.items():
        matrix = weights.get(f'{name}.weight')
        if (type(module) in CONVS and module.kernel_size == (1, 1)
                and matrix is not None and matrix.dim() == 2):
            weights[f'{name}.weight'] = matrix[:, :, None, None]


def _rename_mobilenet(modules, weights, prefix, errors):
    """Give a MobileNetV2's keys the names they have in a module.

    torchvision, mmdet and mmpretrain hold the same layers in the same order
    under three names.

    Returns:
        dict: The weights under their new names, or as they were if they are
        those of another network.
    """
    ours = _shapes(modules)
    if all(key in weights for key in ours):
        return weights
    theirs = [key for key in weights if not key.endswith(COUNTER)]
    new_names = {}
    for (key, shape), their_key in zip(ours.items(), theirs):
        path, _, part = key.rpartition('.')
        their_path, _, their_part = their_key.rpartition('.')
        their_shape = tuple(weights[their_key].shape)
        if part != their_part or their_shape != shape:
            # With keys in common, the lines of mmengine say enough.
            if not any(key in weights for key in ours):
                errors.append(
                    f'{prefix}{their_key} of shape {their_shape} stands in '
                    f'the place of {prefix}{key} of shape {shape}: these are '
                    'not the weights of this MobileNetV2')
            return weights
        new_names[their_key] = key
        new_names[f'{their_path}.{COUNTER}'] = f'{path}.{COUNTER}'
    return {new_names.get(key, key): v for key, v in weights.items()}


def _shapes(modules):
    """Shapes of the plain network's kernels and norms, by key."""
    shapes = {}
    for name, module in modules.items():
        if type(module) in CONVS:
            shapes[f'{name}.weight'] = _kernel_shape(module)
        # That of a gate has no counterpart in a plain network.
        elif isinstance(module, _BatchNorm) and '.adapter.' not in name:
            for key in NORM_KEYS:
                shapes[f'{name}.{key}'] = (module.num_features, )
        elif type(module).__name__ == 'GRN':
            for key in GRN_KEYS:
                shapes[f'{name}.{key}'] = (module.in_channels, )
    return shapes


def _kernel_shape(conv):
    return (conv.out_channels, conv.in_channels // conv.groups,
            *conv.kernel_size)


def _has(weights, key, shape):
    return key in weights and tuple(weights[key].shape) == tuple(shape)


def _children_with_weights(modules, weights, prefix, errors):
    """The children the weights have a kernel for, and their parents.

    A child has no parameter that a kernel of a wrong shape would not fit, so
    that is looked at here.

    Returns:
        dict[str, str]: Name of the child to that of its parent.
    """
    children = {}
    for child, conv in modules.items():
        key = f'{child}.weight'
        if getattr(conv, 'role', None) != 'child' or key not in weights:
            continue
        parents_key = f'{conv.parent_name}.weight'
        if not _has(weights, key, conv.weight_shape):
            given = weights.pop(key)
            errors.append(
                f'size mismatch for {prefix}{key}: a kernel of shape '
                f'{tuple(given.shape)} is given, {conv.weight_shape} is '
                'expected')
        elif (parents_key not in weights
              or _has(weights, parents_key, conv.weight_shape)):
            children[child] = conv.parent_name
    return children


def _give_to_parents_without(weights, children):
    """A parent the weights do not have takes the kernel of a child."""
    for child, parent in children.items():
        if f'{parent}.weight' not in weights:
            weights[f'{parent}.weight'] = weights[f'{child}.weight'].clone()


def _start_as_identity(weights, modules, blocks):
    """Set the last norm of the blocks to zero that the weights do not have.

    Only of stages that the weights do have, and where the shortcut is the
    input itself.

    Returns:
        list[str]: Names of these blocks.
    """
    # By their norms: a parent may have been given a kernel by its child.
    known = {
        name
        for name, layers in blocks.items()
        if any(f'{layer.norm}.weight' in weights for layer in layers)
    }
    stages = {name.split('.')[0] for name in known}
    new = []
    for name, layers in blocks.items():
        last = layers[-1].norm
        factor = getattr(modules.get(last), 'weight', None)
        if (name not in known and name.split('.')[0] in stages
                and isinstance(shortcut(modules[name]), nn.Identity)
                and factor is not None):
            weights[f'{last}.weight'] = torch.zeros_like(factor)
            new.append(name)
    return new


def _align_blocks(weights, modules, blocks, children):
    """Align every block that has children of another block and no parent."""
    shapes = _shapes(modules)
    parents = set(children.values())
    for layers in blocks.values():
        names = {name for layer in layers for name in layer} - {None}
        shared = {c: p for c, p in children.items() if c in names and c != p}
        keys = [key for key in shapes if key.rpartition('.')[0] in names]
        # Of another norm, which may mix channels, there are none.
        complete = {key.rpartition('.')[0] for key in keys} == names
        if (shared and complete and not parents & names
                and all(_has(weights, key, shapes[key]) for key in keys)):
            align(weights, hidden_channels(layers, modules), shared)


def _fit(weights, conv, child, parent):
    """Replace a child's kernel by an adapter to its parent's.

    Returns:
        Fit: How well the child's kernel comes back.
    """
    adapter, key = conv.adapter, f'{child}.weight'
    kernel = source = weights[key].double()
    filters = spatial = torch.ones_like(kernel[:1, :1, :1, :1])
    if child != parent:
        del weights[key]
        source = weights[f'{parent}.weight'].double()
        # In turns; the filters last, so that their norms are kept exactly.
        for _ in range(ROUNDS):
            if adapter.spatial is not None:
                spatial = _norm_ratio(kernel, source * filters, (0, 1))
            if adapter.filter is not None:
                filters = _norm_ratio(kernel, source * spatial, (1, 2, 3))
    derived = source * spatial * filters

    gain = 1 if adapter.gate is None else NEUTRAL
    if 'own_weight' in conv._buffers:
        weights[f'{child}.own_weight'] = kernel * gain
        weights[f'{child}.own_share'] = kernel.new_ones(())
    if adapter.filter is not None:
        filters = filters * gain
    elif adapter.spatial is not None:
        spatial = spatial * gain
    elif child == parent:
        weights[key] = weights[key] * gain
    else:
        # Nothing makes up for the gate.
        derived = derived / gain
    _fill_adapter(weights, f'{child}.adapter.', adapter, filters, spatial)
    return Fit(
        child, parent, float((derived - kernel).norm() / kernel.norm()),
        float(
            F.cosine_similarity(derived.flatten(1), kernel.flatten(1)).mean()))


def _norm_ratio(kernel, source, dims):
    """Norm of one kernel over that of the other, 1 where that is zero."""
    norms, sources = (
        weight.pow(2).sum(dims, keepdim=True).sqrt()
        for weight in (kernel, source))
    return torch.where(sources > 0, norms / sources, torch.ones_like(norms))


def _fill_adapter(weights, prefix, adapter, filters, spatial):
    """Factors as given, a neutral gate, its other layers as they are."""
    values = dict(adapter.state_dict())
    if adapter.filter is not None:
        values['filter'] = (filters - 1).expand_as(adapter.filter)
    if adapter.spatial is not None:
        values['spatial'] = (spatial - 1).expand_as(adapter.spatial)
    if adapter.gate is not None:
        for name in ('gate.fc2.weight', 'gate.fc2.bias'):
            values[name] = torch.zeros_like(values[name])
    for name, value in values.items():
        weights[prefix + name] = value


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
