"""Plain weights under other names and in other shapes than a module's."""
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..conv import KernelDNAConv2d
from .alignment import GRN_KEYS, NORM_KEYS, STEPS

# What the plain network has; DCN and the like take their weights themselves.
CONVS = (nn.Conv2d, KernelDNAConv2d)
COUNTER = 'num_batches_tracked'


def rename_layers(modules, weights):
    """Rename what the host libraries name differently, adapters included.

    mmdet has names for the layers of a MobileNetV2's blocks, mmseg and
    mmpretrain have numbers. In mmpretrain the deep stem of a ResNet is made
    of ConvModules, in mmdet and mmseg of single layers.

    Args:
        modules (dict[str, nn.Module]): Those of a linked module, by name.
        weights (dict[str, Tensor]): Weights by key.

    Returns:
        dict[str, Tensor]: The weights under the names of ``modules``.
    """
    new_names = _stem_names(modules.get('stem'), weights)
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


def _stem_names(stem, weights):
    """Names of a deep stem's layers in the weights, and in the module."""
    if not isinstance(stem, nn.Sequential):
        return {}
    whole = {}
    for i in range(3):
        whole[f'stem.{i}.conv.'] = f'stem.{3 * i}.'
        whole[f'stem.{i}.bn.'] = f'stem.{3 * i + 1}.'
    are_single = any(key.startswith('stem.6.') for key in weights)
    if len(stem) == 9 and not are_single:
        return whole
    if len(stem) == 3 and are_single:
        return {single: name for name, single in whole.items()}
    return {}


def make_kernels_of_matrices(modules, weights):
    """Take a linear layer's matrix for the kernel of a 1x1 convolution.

    A ConvNeXt has the one or the other, with adapters or without.

    Args:
        modules (dict[str, nn.Module]): Those of a linked module, by name.
        weights (dict[str, Tensor]): Weights by key; changed in place.
    """
    for name, module in modules.items():
        matrix = weights.get(f'{name}.weight')
        if (type(module) in CONVS and module.kernel_size == (1, 1)
                and matrix is not None and matrix.dim() == 2):
            weights[f'{name}.weight'] = matrix[:, :, None, None]


def rename_mobilenet(modules, weights, prefix, errors):
    """Give a MobileNetV2's keys the names they have in a module.

    torchvision, mmdet and mmpretrain hold the same layers in the same order
    under three names.

    Args:
        modules (dict[str, nn.Module]): Those of a linked module, by name.
        weights (dict[str, Tensor]): Weights by key.
        prefix (str): What precedes the keys in the whole state dict.
        errors (list[str]): Gets what is said of another network's weights.

    Returns:
        dict[str, Tensor]: The weights under their new names, or as they were
        if they are those of another network.
    """
    ours = plain_shapes(modules)
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


def plain_shapes(modules):
    """Shapes of the plain network's kernels and norms.

    Args:
        modules (dict[str, nn.Module]): Those of a linked module, by name.

    Returns:
        dict[str, tuple[int]]: Shape by key.
    """
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
