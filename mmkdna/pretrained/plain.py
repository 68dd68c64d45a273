"""Ordinary pretrained weights, taken by a linked module."""
from mmengine.logging import print_log

from ..conv import KernelDNAConv2d
from ..hosts import block_layers, rename_layers
from ..sharing import named_convs
from .adapters import fit_adapter
from .alignment import align, hidden_channels
from .layouts import (has_tensor, make_kernels_of_matrices, plain_shapes,
                      rename_mobilenet)
from .missing_blocks import (find_missing_blocks, find_stuck_blocks,
                             start_as_identity)


def accept_plain_weights(unit):
    """Have a unit take the weights of the plain network it is made from.

    From then on, whatever loads a state dict into ``unit`` or into a model
    around it, be it ``init_cfg``, ``load_from`` or an inference function, may
    bring plain weights, in the key layout of the host library or, for a
    MobileNetV2, of torchvision. Plain convolutions and parents take theirs
    exactly. For a child, the hidden channels of its block are permuted to
    match the parent's kernel, the static modulation is set to keep the norm
    of each filter, and the gate starts neutral: at 0.5, with ``fc2`` at zero
    and the factor 2 in the static modulation, so that it is not saturated. A
    residual block that the weights do not have starts as the identity. The log
    says what was done. A state dict with adapters in it is loaded as it is.
    Units inside the unit take their own weights themselves.

    Args:
        unit (nn.Module): A linked backbone, neck or head.
    """
    if not _accepts_plain_weights(unit):
        unit._register_load_state_dict_pre_hook(
            _convert_before_loading, with_module=True)


def _accepts_plain_weights(module):
    return any(
        getattr(hook, 'hook', None) is _convert_before_loading
        for hook in module._load_state_dict_pre_hooks.values())


def _convert_before_loading(unit, state_dict, prefix, metadata, strict,
                            missing, unexpected, errors):
    """Convert the weights in a state dict right before torch loads it."""
    inner = _inner_units(unit)
    modules = {
        name: module
        for name, module in unit.named_modules()
        if not f'{name}.'.startswith(inner)
    }
    keys = [
        key for key in state_dict
        if key.startswith(prefix) and not key[len(prefix):].startswith(inner)
    ]
    if not keys:
        return
    # Of a child whose parent was replaced nobody would take the kernel.
    named_convs(unit)
    weights = {key[len(prefix):]: state_dict[key] for key in keys}
    weights = rename_layers(modules, weights)
    make_kernels_of_matrices(modules, weights)
    if not any('.adapter.' in key for key in weights):
        weights = _convert(unit, modules, weights, prefix, errors)
    _drop_own_kernels(modules, weights)

    for key in keys:
        del state_dict[key]
    for key, value in weights.items():
        state_dict[prefix + key] = value


def _inner_units(unit):
    """Find the units inside a unit, as the backbone in mmdet's RFP.

    Returns:
        tuple[str]: What the names of their modules start with.
    """
    return tuple(f'{name}.' for name, module in unit.named_modules()
                 if module is not unit and _accepts_plain_weights(module))


def _convert(unit, modules, weights, prefix, errors):
    """Plain weights as those of a linked unit."""
    blocks = {name: block_layers(name, m) for name, m in modules.items()}
    blocks = {name: layers for name, layers in blocks.items() if layers}

    if type(unit).__name__.endswith('MobileNetV2'):
        weights = rename_mobilenet(modules, weights, prefix, errors)
    children = _children_with_weights(modules, weights, prefix, errors)
    missing = find_missing_blocks(weights, modules, blocks)
    _give_to_missing_parents(weights, children, missing)
    new = start_as_identity(weights, modules, blocks, missing)
    stuck = find_stuck_blocks(modules, blocks, new)
    borrowed = _kernels_of_other_parents(weights, modules, children)
    weights.update(borrowed)
    _align_blocks(weights, modules, blocks, children)
    fits = [
        fit_adapter(weights, modules[child], child, parent)
        for child, parent in children.items()
    ]
    for key in borrowed:
        del weights[key]
    _report(type(unit).__name__, fits, new, stuck)
    return weights


def _drop_own_kernels(modules, weights):
    """End the own kernels of children, where those of a checkpoint have.

    Such a checkpoint has all kernels that are not derived, and the adapters
    without the own kernels. A few weights of a unit end nothing.
    """
    convs = {
        name: module
        for name, module in modules.items()
        if isinstance(module, KernelDNAConv2d)
    }
    if not all(f'{name}.weight' in weights
               for name, conv in convs.items() if conv.parent in (None, conv)):
        return
    for name, conv in convs.items():
        if ('own_weight' not in conv._buffers
                or f'{name}.own_weight' in weights):
            continue
        keys = conv.adapter.state_dict()
        if not keys or any(f'{name}.adapter.{key}' in weights for key in keys):
            conv.drop_own_weight()


def _children_with_weights(modules, weights, prefix, errors):
    """The children the weights have a kernel for, and their parents.

    A child has no parameter that a kernel of a wrong shape would not fit, so
    that is looked at here.

    Returns:
        dict[str, str]: Name of the child to that of its parent.
    """
    names = {module: name for name, module in modules.items()}
    children = {}
    for child, conv in modules.items():
        key = f'{child}.weight'
        if (not isinstance(conv, KernelDNAConv2d) or conv.adapter is None
                or key not in weights):
            continue
        # After deploying, a child has its own kernel behind its gate.
        parent = child if conv.parent is None else names[conv.parent]
        parents_key = f'{parent}.weight'
        if not has_tensor(weights, key, conv.weight_shape):
            given = weights.pop(key)
            errors.append(
                f'size mismatch for {prefix}{key}: a kernel of shape '
                f'{tuple(given.shape)} is given, {conv.weight_shape} is '
                'expected')
        elif (parents_key not in weights
              or has_tensor(weights, parents_key, conv.weight_shape)):
            children[child] = parent
    return children


def _give_to_missing_parents(weights, children, missing):
    """Give the parents in missing blocks the kernel of a child."""
    prefixes = tuple(f'{block}.' for block in missing)
    for child, parent in children.items():
        if f'{parent}.weight' not in weights and parent.startswith(prefixes):
            weights[f'{parent}.weight'] = weights[f'{child}.weight'].clone()


def _kernels_of_other_parents(weights, modules, children):
    """Look up what parents have that the weights do not mention.

    Returns:
        dict[str, Tensor]: Kernels by key.
    """
    return {
        f'{parent}.weight':
        modules[parent].weight.detach().to(weights[f'{child}.weight'])
        for child, parent in children.items()
        if f'{parent}.weight' not in weights
    }


def _align_blocks(weights, modules, blocks, children):
    """Align every block that has children of another block and no parent."""
    shapes = plain_shapes(modules)
    parents = set(children.values())
    for layers in blocks.values():
        names = {name for layer in layers for name in layer} - {None}
        shared = {c: p for c, p in children.items() if c in names and c != p}
        keys = [key for key in shapes if key.rpartition('.')[0] in names]
        # Of another norm, which may mix channels, there are none.
        complete = {key.rpartition('.')[0] for key in keys} == names
        if (shared and complete and not parents & names
                and all(has_tensor(weights, key, shapes[key])
                        for key in keys)):
            align(weights, hidden_channels(layers, modules), shared)


def _report(module, fits, new, stuck):
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
    if stuck:
        lines.append('KernelDNA: the last norms of these blocks are frozen at '
                     f'zero, so that they stay it: {", ".join(stuck)}; '
                     'norm_cfg=dict(type=\'BN\', requires_grad=True) on the '
                     'backbone lets them learn')
    if lines:
        print_log('\n'.join(lines), logger='current')
