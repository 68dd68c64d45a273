"""The authors' networks in float64, on the keys of their own state dicts.

Written from the description of the networks alone: nothing of mmkdna, of a
host library or of ``nn.Module`` is called. ``f`` and ``s`` are the static
factors, the gate acts on the input of a child; arXiv 2503.23379.
"""
import torch
from torch.nn import functional as F


def logits(name, state_dict, x):
    """What a network answers in eval mode.

    Args:
        name (str): 'resnet18', 'resnet50', 'mobilenet_v2' or
            'mobilenet_v2_1d2'.
        state_dict (dict[str, Tensor]): The authors', without ``module.``.
        x (Tensor): Images, shape (N, 3, H, W).

    Returns:
        Tensor: Shape (N, 1000), float64.
    """
    p = {key: value.double() for key, value in state_dict.items()}
    x = x.double()
    if name == 'resnet18':
        x = resnet18(p, x)
    elif name == 'resnet50':
        x = resnet50(p, x)
    else:
        x = mobilenet_v2(p, x)
    head = 'classifier.1' if name.startswith('mobilenet') else 'fc'
    return x.mean((2, 3)) @ p[f'{head}.weight'].t() + p[f'{head}.bias']


def conv(p, x, key, stride=1):
    """A convolution; a depthwise kernel has one input channel."""
    weight = p[f'{key}.weight']
    return F.conv2d(
        x,
        weight,
        stride=stride,
        padding=weight.shape[-1] // 2,
        groups=x.shape[1] // weight.shape[1])


def norm(p, x, key):
    """A batch norm by its running statistics."""
    scale = p[f'{key}.weight'] / (p[f'{key}.running_var'] + 1e-5).sqrt()
    shift = p[f'{key}.bias'] - p[f'{key}.running_mean'] * scale
    shape = (1, -1) + (1, ) * (x.dim() - 2)
    return x * scale.view(shape) + shift.view(shape)


def gate(p, x, key):
    """The input of a child."""
    z = x.mean((2, 3)) @ p[f'{key}.fc1.weight'][:, :, 0, 0].t()
    z = norm(p, z, f'{key}.bn').clamp(min=0)
    z = z @ p[f'{key}.fc2.weight'][:, :, 0, 0].t() + p[f'{key}.fc2.bias']
    return x / (1 + torch.exp(-z))[:, :, None, None]


def child(p, x, parent, row, se, filters, spatial=None):
    """A child's convolution."""
    weight = p[f'{parent}.weight'] * (1 + p[filters][row])
    if spatial is not None:
        weight = weight * (1 + p[spatial][row])
    return F.conv2d(gate(p, x, se), weight, padding=weight.shape[-1] // 2)


def stem(p, x):
    x = norm(p, conv(p, x, 'conv1', 2), 'bn1').relu()
    return F.max_pool2d(x, 3, 2, 1)


def resnet18(p, x):
    x = stem(p, x)
    for stage, first_stride in (('layer1', 1), ('layer2', 2)):
        for block in (0, 1):
            key = f'{stage}.{block}'
            stride = 1 if block else first_stride
            y = norm(p, conv(p, x, f'{key}.conv1', stride), f'{key}.bn1')
            y = norm(p, conv(p, y.relu(), f'{key}.conv2'), f'{key}.bn2')
            if stride == 2:
                x = conv(p, x, f'{key}.downsample.0', 2)
                x = norm(p, x, f'{key}.downsample.1')
            x = (x + y).relu()
    for stage in ('layer3', 'layer4'):

        def kid(x, i, parent):
            y = child(p, x, f'{stage}.{parent}', i, f'{stage}.se.{i}.se',
                      f'{stage}.static_filter_attn',
                      f'{stage}.static_spatial_attn')
            return norm(p, y, f'{stage}.bns.{i}')

        shortcut = conv(p, x, f'{stage}.downsample.0', 2)
        shortcut = norm(p, shortcut, f'{stage}.downsample.1')
        y = norm(p, conv(p, x, f'{stage}.conv1', 2), f'{stage}.bn1').relu()
        x = (kid(y, 0, 'conv2') + shortcut).relu()
        y = conv(p, kid(x, 1, 'conv2').relu(), f'{stage}.conv2')
        x = (norm(p, y, f'{stage}.bn2') + x).relu()
        y = conv(p, kid(x, 2, 'conv3').relu(), f'{stage}.conv3')
        x = (norm(p, y, f'{stage}.bn3') + x).relu()
    return x


def bottleneck(p, x, key, stride=1):
    y = norm(p, conv(p, x, f'{key}.conv1'), f'{key}.bn1').relu()
    y = norm(p, conv(p, y, f'{key}.conv2', stride), f'{key}.bn2').relu()
    return norm(p, conv(p, y, f'{key}.conv3'), f'{key}.bn3')


def resnet50(p, x):
    x = stem(p, x)
    for stage, blocks, first_stride in (('layer1', 3, 1), ('layer2', 4, 2)):
        for block in range(blocks):
            key = f'{stage}.{block}'
            stride = 1 if block else first_stride
            y = bottleneck(p, x, key, stride)
            if block == 0:
                x = conv(p, x, f'{key}.downsample.0', stride)
                x = norm(p, x, f'{key}.downsample.1')
            x = (x + y).relu()
    # The children of a stage and, behind each, its parent.
    stages = dict(
        layer3=[(f'kids.{i}', f'parents.{i}') for i in range(3)],
        layer4=[('blocks.0', 'last_block')])
    for stage, pairs in stages.items():
        filters = 'static_filter_attn' + ('2' if stage == 'layer4' else '')
        y = bottleneck(p, x, f'{stage}.block0.layers', 2)
        x = conv(p, x, f'{stage}.block0.downsample.conv', 2)
        x = norm(p, x, f'{stage}.block0.downsample.bn')
        x = (x + y).relu()
        for i, (kid, parent) in enumerate(pairs):
            half1, half2 = f'{stage}.{kid}.half1', f'{stage}.{kid}.half2'
            y = norm(p, conv(p, x, f'{half1}.conv1'), f'{half1}.bn1').relu()
            y = child(p, y, f'{stage}.{parent}.layers.conv2', i,
                      f'{half1}.se.se', f'{stage}.{filters}',
                      f'{stage}.static_spatial_attn')
            y = norm(p, y, f'{half2}.bn2').relu()
            y = norm(p, conv(p, y, f'{half2}.conv3'), f'{half2}.bn3')
            x = (x + y).relu()
            y = bottleneck(p, x, f'{stage}.{parent}.layers')
            x = (x + y).relu()
    return x


def relu6(x):
    return x.clamp(0, 6)


def inverted_residual(p, x, names, stride, shortcut):
    """Of torchvision's names or the authors': convs and norms in turns."""
    y = x
    *names, last_conv, last_norm = names
    for conv_name, norm_name in zip(names[::2], names[1::2]):
        # The one 3x3 in it carries the stride.
        size = p[f'{conv_name}.weight'].shape[-1]
        y = conv(p, y, conv_name, stride if size == 3 else 1)
        y = relu6(norm(p, y, norm_name))
    y = norm(p, conv(p, y, last_conv), last_norm)
    return x + y if shortcut else y


def torchvision_names(key, expanded=True):
    parts = ['0.0', '0.1', '1.0', '1.1', '2', '3']
    if not expanded:
        parts = ['0.0', '0.1', '1', '2']
    return [f'{key}.conv.{part}' for part in parts]


def layered_names(key):
    parts = ['pw1', 'bn1', 'dw', 'bn2', 'pw2', 'bn3']
    return [f'{key}.layers.{part}' for part in parts]


def mobilenet_v2(p, x):
    x = relu6(norm(p, conv(p, x, 'features.0.0', 2), 'features.0.1'))
    x = inverted_residual(p, x, torchvision_names('features.1', False), 1,
                          False)
    x = inverted_residual(p, x, torchvision_names('features.2'), 2, False)
    x = inverted_residual(p, x, torchvision_names('features.3'), 1, True)
    for stage, kids, stride in ((6, 1, 2), (10, 2, 2), (13, 1, 1), (16, 1, 2)):
        key = f'features.{stage}'
        x = inverted_residual(p, x, layered_names(f'{key}.transition'), stride,
                              False)
        parent = f'{key}.last_block.layers'
        for i in range(kids):
            kid = f'{key}.blocks.{i}'
            y = child(p, x, f'{parent}.pw1', i, f'{kid}.se1.se',
                      f'{key}.static_filter_attn1')
            y = relu6(norm(p, y, f'{kid}.bn1'))
            y = relu6(norm(p, conv(p, y, f'{kid}.dwconv'), f'{kid}.bn2'))
            y = child(p, y, f'{parent}.pw2', i, f'{kid}.se3.se',
                      f'{key}.static_filter_attn3')
            x = x + norm(p, y, f'{kid}.bn3')
        x = inverted_residual(p, x, layered_names(f'{key}.last_block'), 1,
                              True)
    x = inverted_residual(p, x, torchvision_names('features.17'), 1, False)
    return relu6(norm(p, conv(p, x, 'features.18.0'), 'features.18.1'))
