"""Plain weights under other names and in other shapes than a module's."""
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from ..conv import KernelDNAConv2d
from .alignment import GRN_KEYS, NORM_KEYS

# What the plain network has; DCN and the like take their weights themselves.
CONVS = (nn.Conv2d, KernelDNAConv2d)
COUNTER = 'num_batches_tracked'


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
    # Some of them are enough: weights may be those of a part.
    if any(key in weights for key in ours):
        return weights
    theirs = [key for key in weights if not key.endswith(COUNTER)]
    new_names = {}
    for (key, shape), their_key in zip(ours.items(), theirs):
        path, _, part = key.rpartition('.')
        their_path, _, their_part = their_key.rpartition('.')
        their_shape = tuple(weights[their_key].shape)
        if part != their_part or their_shape != shape:
            errors.append(
                f'{prefix}{their_key} of shape {their_shape} stands in the '
                f'place of {prefix}{key} of shape {shape}: these are not the '
                'weights of this MobileNetV2')
            return weights
        new_names[their_key] = key
        new_names[f'{their_path}.{COUNTER}'] = f'{path}.{COUNTER}'
    return {new_names.get(key, key): v for key, v in weights.items()}


def plain_shapes(modules):
    """Shapes of the plain network's kernels, biases and norms.

    Args:
        modules (dict[str, nn.Module]): Those of a linked module, by name.

    Returns:
        dict[str, tuple[int]]: Shape by key.
    """
    shapes = {}
    for name, module in modules.items():
        if type(module) in CONVS:
            shapes[f'{name}.weight'] = _kernel_shape(module)
            if module.bias is not None:
                shapes[f'{name}.bias'] = (module.out_channels, )
        # That of a gate has no counterpart in a plain network.
        elif isinstance(module, _BatchNorm) and '.adapter.' not in name:
            for key in NORM_KEYS:
                shapes[f'{name}.{key}'] = (module.num_features, )
        elif type(module).__name__ == 'GRN':
            for key in GRN_KEYS:
                shapes[f'{name}.{key}'] = (module.in_channels, )
    return shapes


def has_tensor(weights, key, shape):
    """Tell whether there is a tensor of a key, and of a shape.

    Args:
        weights (dict[str, Tensor]): Weights by key.
        key (str): The key.
        shape (Sequence[int]): The shape.

    Returns:
        bool: Whether there is.
    """
    return key in weights and tuple(weights[key].shape) == tuple(shape)


def _kernel_shape(conv):
    return (conv.out_channels, conv.in_channels // conv.groups,
            *conv.kernel_size)
