"""Between the checkpoints of KernelDNA's authors and ours, both ways.

One table per network lists each tensor under both its names, and both
directions read the same table. Ours are the names in the classifiers of
``configs/resnet`` and ``configs/mobilenet_v2``.
"""
from collections import OrderedDict
from functools import lru_cache
from typing import NamedTuple, Optional, Tuple

import torch

PREFIX = 'backbone.'
MODULE = 'module.'
# Of the keys that an error names; a wrong network could have hundreds.
MAX_NAMED = 20


class Entry(NamedTuple):
    """One tensor of ours, and where the authors keep it.

    Attributes:
        mmkdna (str): Our key, which starts with 'backbone.' or 'head.'.
        mmkdna_shape (tuple[int]): Its shape.
        official (str): The authors' key.
        official_shape (tuple[int]): The shape under that key.
        row (int, optional): Which row of the authors' tensor it is; ``None``
            for the whole of it.
    """
    mmkdna: str
    mmkdna_shape: Tuple[int, ...]
    official: str
    official_shape: Tuple[int, ...]
    row: Optional[int] = None


class Network(NamedTuple):
    """One network that the authors published.

    Attributes:
        name (str): Its name.
        config (str): The config whose classifier it is.
        table (tuple[Entry]): Its tensors.
    """
    name: str
    config: str
    table: Tuple[Entry, ...]

    def shapes(self, side):
        """Shape by key.

        Args:
            side (str): 'official' or 'mmkdna'.

        Returns:
            dict[str, tuple[int]]: Every key of that side.
        """
        return {
            getattr(entry, side): getattr(entry, f'{side}_shape')
            for entry in self.table
        }


def official_to_mmkdna(state_dict, prefix=PREFIX):
    """Translate a state dict of the authors' code.

    Args:
        state_dict (dict[str, Tensor]): Of one of the four networks the
            authors published; keys may start with ``module.``.
        prefix (str): What the keys of the backbone start with in the result,
            beside the classifier's ``head.fc``. With an empty one the result
            is the backbone's own state dict, without the classifier.
            Defaults to 'backbone.'.

    Returns:
        OrderedDict[str, Tensor]: The same values, which share no memory with
        those given.

    Raises:
        ValueError: If the network is none of the four, or a key is missing,
            surplus or of a wrong shape.
    """
    state_dict = strip_module(state_dict)
    network = recognize(state_dict, 'official', prefix)
    _check(state_dict, network, 'official')
    translated = OrderedDict()
    for entry in network.table:
        if not prefix and entry.mmkdna.startswith('head.'):
            continue
        value = state_dict[entry.official].detach()
        if entry.row is not None:
            value = value[entry.row]
        translated[entry.mmkdna] = value.reshape(entry.mmkdna_shape).clone()
    return translated


def mmkdna_to_official(state_dict, prefix=PREFIX):
    """Translate a classifier's state dict to that of the authors' code.

    The inverse of :func:`official_to_mmkdna`, to the bit.

    Args:
        state_dict (dict[str, Tensor]): Of a classifier from ``configs/resnet``
            or ``configs/mobilenet_v2``.
        prefix (str): What the keys of the backbone start with in
            ``state_dict``. Defaults to 'backbone.'.

    Returns:
        OrderedDict[str, Tensor]: The same values, which share no memory with
        those given, under the authors' keys without ``module.``.

    Raises:
        ValueError: If the network is none of the four, or a key is missing,
            surplus or of a wrong shape.
    """
    state_dict = strip_module(state_dict)
    network = recognize(state_dict, 'mmkdna', prefix)
    _check(state_dict, network, 'mmkdna')
    rows = OrderedDict()
    for entry in network.table:
        rows.setdefault(entry.official, []).append(entry)
    translated = OrderedDict()
    for key, entries in rows.items():
        # The table lists the rows of a tensor in their order.
        values = [state_dict[entry.mmkdna].detach() for entry in entries]
        value = values[0] if entries[0].row is None else torch.stack(values)
        translated[key] = value.reshape(entries[0].official_shape).clone()
    return translated


def recognize(state_dict, side, prefix=PREFIX):
    """Tell which network a state dict is of.

    Args:
        state_dict (dict[str, Tensor]): The state dict, without ``module.``.
        side (str): Whose keys it has, 'official' or 'mmkdna'.
        prefix (str): What our keys of the backbone start with. Defaults to
            'backbone.'.

    Returns:
        Network: The one with which it has most keys and shapes in common;
        others may be missing or surplus.

    Raises:
        ValueError: If it has less than half of each network's keys.
    """

    def in_common(network):
        shapes = network.shapes(side)
        common = set(shapes) & set(state_dict)
        # The two MobileNetV2 differ by nothing but shapes.
        return len(common), sum(
            _fits(state_dict[key], shapes[key]) for key in common)

    nearest = max(networks(prefix), key=in_common)
    common, expected = in_common(nearest)[0], len(nearest.shapes(side))
    if 2 * common < expected:
        raise ValueError(
            _say_foreign(state_dict, side)
            or _say_unknown(state_dict, side, nearest, common))
    return nearest


def strip_module(state_dict):
    """Take ``module.``, which DataParallel adds, from keys.

    Args:
        state_dict (dict[str, Tensor]): Any state dict.

    Returns:
        dict[str, Tensor]: The same without ``module.``.

    Raises:
        ValueError: If a key is there both with it and without.
    """
    stripped = {}
    for key, value in state_dict.items():
        name = str(key)
        name = name[len(MODULE):] if name.startswith(MODULE) else name
        if name in stripped:
            raise ValueError(
                f'{name} is there with and without {MODULE!r} before it, one '
                'of the two is expected: remove the other')
        stripped[name] = value
    return stripped


def _fits(value, shape):
    return isinstance(value, torch.Tensor) and value.shape == shape


def _say_foreign(state_dict, side):
    """What is said of a state dict that is of another kind altogether."""
    keys = list(state_dict)
    official = any('.static_filter_attn' in key for key in keys)
    mmkdna = any('.adapter.' in key for key in keys)
    if side == 'official' and mmkdna:
        return ('a checkpoint of mmkdna is given (it has keys with '
                '\'.adapter.\'), one of the authors\' code is expected: it '
                'needs no conversion, and mmkdna_to_official() or --reverse '
                'goes the other way')
    if side == 'mmkdna' and official:
        return ('a checkpoint of the authors\' code is given (it has keys '
                'with \'.static_filter_attn\'), one of mmkdna is expected: '
                'official_to_mmkdna(), or the tool without --reverse, '
                'converts it')
    if not official and not mmkdna and any(
            key.endswith(('conv1.weight', 'conv1.conv.weight',
                          'features.0.0.weight')) for key in keys):
        return (
            'an ordinary pretrained network is given (none of its '
            f'{len(keys)} keys belongs to an adapter), one with KernelDNA is '
            'expected: it needs no conversion, since backbone=dict('
            'init_cfg=dict(type=\'Pretrained\', checkpoint=FILE)) loads it '
            'directly, with prefix=\'backbone.\' beside it if its keys start '
            'with that')


def _say_unknown(state_dict, side, nearest, common):
    """What is said of a state dict that has too little of every network."""
    shapes = nearest.shapes(side)
    names = ', '.join(network.name for network in networks())
    advice = ('its state dict as a whole' if side == 'official' else
              'its classifier\'s state dict as a whole, and the prefix of the '
              'backbone\'s keys')
    return (f'none of the networks {names} is recognized: at least half of '
            f'the keys of one are expected, such as {_some(list(shapes), 3)}; '
            f'the nearest is {nearest.name}, of whose {len(shapes)} keys '
            f'{common} are among the {len(state_dict)} given '
            f'({_some(list(state_dict), 3)}): give {advice}')


def _check(state_dict, network, side):
    """Compare keys and shapes with those of a network."""
    shapes = network.shapes(side)
    missing = [
        f'{key} of shape {shape}' for key, shape in shapes.items()
        if key not in state_dict
    ]
    surplus = [key for key in state_dict if key not in shapes]
    wrong = []
    for key, shape in shapes.items():
        value = state_dict.get(key)
        if key in state_dict and not _fits(value, shape):
            given = (f'has shape {tuple(value.shape)}' if isinstance(
                value, torch.Tensor) else f'is a {type(value).__name__}')
            wrong.append(f'{key} {given}, a tensor of shape {shape} is '
                         'expected')
    faults = [
        f'{what}: {_some(keys)}' for what, keys in (
            ('missing', missing),
            ('surplus, so without a place in the network', surplus),
            ('wrong', wrong),
        ) if keys
    ]
    if not faults:
        return
    if side == 'official':
        whose = 'the authors\''
        advice = ('Give the state dict as their code writes it for the 1000 '
                  'classes of ImageNet, or correct these keys')
    else:
        whose = 'mmkdna\'s'
        advice = (f'Give the state dict of the classifier in {network.config} '
                  'as a whole, and the prefix of its backbone\'s keys')
    raise ValueError(
        f'the checkpoint is of {whose} {network.name}, but its keys are not '
        f'those expected; {"; ".join(faults)}. {advice}')


def _some(names, most=MAX_NAMED):
    more = len(names) - most
    return ', '.join(names[:most]) + (f' and {more} more' if more > 0 else '')


class _Table(list):
    """A list of entries, added module by module."""

    def tensor(self, official, mmkdna, *shape, official_shape=None):
        self.append(
            Entry(mmkdna, shape, official,
                  shape if official_shape is None else official_shape))

    def conv(self, official, mmkdna, out_channels, in_channels, size):
        self.tensor(f'{official}.weight', f'{mmkdna}.weight', out_channels,
                    in_channels, size, size)

    def norm(self, official, mmkdna, channels):
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            self.tensor(f'{official}.{name}', f'{mmkdna}.{name}', channels)
        self.tensor(f'{official}.num_batches_tracked',
                    f'{mmkdna}.num_batches_tracked')

    def row(self, official, row, rows, mmkdna, *shape):
        self.append(Entry(mmkdna, shape, official, (rows, *shape), row))

    def gate(self, official, mmkdna, in_channels, out_channels):
        """The authors' two linear layers are 1x1 convolutions."""
        reduced = min(in_channels, out_channels) // 4
        for name, shape in (('fc1', (reduced, in_channels)),
                            ('fc2', (in_channels, reduced))):
            self.tensor(
                f'{official}.{name}.weight',
                f'{mmkdna}.{name}.weight',
                *shape,
                official_shape=(*shape, 1, 1))
        self.tensor(f'{official}.fc2.bias', f'{mmkdna}.fc2.bias', in_channels)
        self.norm(f'{official}.bn', f'{mmkdna}.norm', reduced)

    def adapter3x3(self, stage, filters, row, rows, gate, mmkdna, channels):
        """Of a ResNet's child, whose static factors lie in its stage."""
        self.row(f'{stage}.{filters}', row, rows, f'{mmkdna}.adapter.filter',
                 channels, 1, 1, 1)
        self.row(f'{stage}.static_spatial_attn', row, rows,
                 f'{mmkdna}.adapter.spatial', 1, 1, 3, 3)
        self.gate(gate, f'{mmkdna}.adapter.gate', channels, channels)

    def classifier(self, official, channels):
        self.tensor(f'{official}.weight', 'head.fc.weight', 1000, channels)
        self.tensor(f'{official}.bias', 'head.fc.bias', 1000)


def _resnet18():
    table = _Table()
    table.conv('conv1', 'backbone.conv1', 64, 3, 7)
    table.norm('bn1', 'backbone.bn1', 64)
    inputs = 64
    for stage, channels in (('layer1', 64), ('layer2', 128)):
        for block in (0, 1):
            theirs = f'{stage}.{block}'
            ours = f'backbone.{theirs}'
            table.conv(f'{theirs}.conv1', f'{ours}.conv1', channels, inputs, 3)
            table.norm(f'{theirs}.bn1', f'{ours}.bn1', channels)
            table.conv(f'{theirs}.conv2', f'{ours}.conv2', channels, channels,
                       3)
            table.norm(f'{theirs}.bn2', f'{ours}.bn2', channels)
            if inputs != channels:
                table.conv(f'{theirs}.downsample.0', f'{ours}.downsample.0',
                           channels, inputs, 1)
                table.norm(f'{theirs}.downsample.1', f'{ours}.downsample.1',
                           channels)
            inputs = channels
    for stage, channels in (('layer3', 256), ('layer4', 512)):
        ours = f'backbone.{stage}'
        table.conv(f'{stage}.conv1', f'{ours}.0.conv1', channels, inputs, 3)
        table.norm(f'{stage}.bn1', f'{ours}.0.bn1', channels)
        table.conv(f'{stage}.downsample.0', f'{ours}.0.downsample.0', channels,
                   inputs, 1)
        table.norm(f'{stage}.downsample.1', f'{ours}.0.downsample.1', channels)
        for child, (block, place) in enumerate(((0, 2), (1, 1), (2, 1))):
            table.adapter3x3(stage, 'static_filter_attn', child, 3,
                             f'{stage}.se.{child}.se',
                             f'{ours}.{block}.conv{place}', channels)
            table.norm(f'{stage}.bns.{child}', f'{ours}.{block}.bn{place}',
                       channels)
        for parent, block in ((2, 1), (3, 2)):
            table.conv(f'{stage}.conv{parent}', f'{ours}.{block}.conv2',
                       channels, channels, 3)
            table.norm(f'{stage}.bn{parent}', f'{ours}.{block}.bn2', channels)
        inputs = channels
    table.classifier('fc', 512)
    return table


def _bottleneck(table, modules, ours, inputs, channels, adapter=None):
    """A bottleneck.

    Args:
        table (_Table): Gets its entries.
        modules (dict[str, str]): The authors' name for each of our modules.
        ours (str): Our name of the block.
        inputs (int): Channels of its input.
        channels (int): Channels of its 3x3, a quarter of its output's.
        adapter (tuple, optional): The first five arguments of
            :meth:`_Table.adapter3x3` if the 3x3 is a child.
    """
    table.conv(modules['conv1'], f'{ours}.conv1', channels, inputs, 1)
    table.norm(modules['bn1'], f'{ours}.bn1', channels)
    if adapter is None:
        table.conv(modules['conv2'], f'{ours}.conv2', channels, channels, 3)
    else:
        table.adapter3x3(*adapter, f'{ours}.conv2', channels)
    table.norm(modules['bn2'], f'{ours}.bn2', channels)
    table.conv(modules['conv3'], f'{ours}.conv3', 4 * channels, channels, 1)
    table.norm(modules['bn3'], f'{ours}.bn3', 4 * channels)
    if inputs != 4 * channels:
        table.conv(modules['downsample.0'], f'{ours}.downsample.0',
                   4 * channels, inputs, 1)
        table.norm(modules['downsample.1'], f'{ours}.downsample.1',
                   4 * channels)


def _torchvision_block(name):
    parts = ('conv1', 'bn1', 'conv2', 'bn2', 'conv3', 'bn3', 'downsample.0',
             'downsample.1')
    return {part: f'{name}.{part}' for part in parts}


def _plain_block(name):
    return dict(
        _torchvision_block(f'{name}.layers'), **{
            'downsample.0': f'{name}.downsample.conv',
            'downsample.1': f'{name}.downsample.bn'
        })


def _child_block(name):
    half1, half2 = f'{name}.half1', f'{name}.half2'
    return dict(
        conv1=f'{half1}.conv1',
        bn1=f'{half1}.bn1',
        bn2=f'{half2}.bn2',
        conv3=f'{half2}.conv3',
        bn3=f'{half2}.bn3')


def _resnet50():
    table = _Table()
    table.conv('conv1', 'backbone.conv1', 64, 3, 7)
    table.norm('bn1', 'backbone.bn1', 64)
    inputs = 64
    for stage, channels, blocks in (('layer1', 64, 3), ('layer2', 128, 4)):
        for block in range(blocks):
            _bottleneck(table, _torchvision_block(f'{stage}.{block}'),
                        f'backbone.{stage}.{block}', inputs, channels)
            inputs = 4 * channels
    # Behind the first block of a stage stand pairs of child and parent.
    stages = (
        ('layer3', 256, 'static_filter_attn', [(f'kids.{i}', f'parents.{i}')
                                               for i in range(3)]),
        ('layer4', 512, 'static_filter_attn2', [('blocks.0', 'last_block')]),
    )
    for stage, channels, filters, pairs in stages:
        ours = f'backbone.{stage}'
        _bottleneck(table, _plain_block(f'{stage}.block0'), f'{ours}.0',
                    inputs, channels)
        inputs = 4 * channels
        for i, (child, parent) in enumerate(pairs):
            _bottleneck(
                table,
                _child_block(f'{stage}.{child}'),
                f'{ours}.{2 * i + 1}',
                inputs,
                channels,
                adapter=(stage, filters, i, len(pairs),
                         f'{stage}.{child}.half1.se.se'))
            _bottleneck(table, _plain_block(f'{stage}.{parent}'),
                        f'{ours}.{2 * i + 2}', inputs, channels)
    table.classifier('fc', 2048)
    return table


def _inverted_residual(table, names, ours, inputs, outputs, expansion):
    """A block without children.

    Args:
        table (_Table): Gets its entries.
        names (Sequence[str]): The authors' names of its convolutions and
            norms, in turns.
        ours (str): Our name of the block.
        inputs (int): Channels of its input.
        outputs (int): Channels of its output.
        expansion (int): The hidden channels are this many times the inputs.
    """
    hidden = inputs * expansion
    shapes = [(hidden, inputs, 1), (hidden, 1, 3), (outputs, hidden, 1)]
    if expansion == 1:
        del shapes[0]
    for i, shape in enumerate(shapes):
        table.conv(names[2 * i], f'{ours}.conv.{i}.conv', *shape)
        table.norm(names[2 * i + 1], f'{ours}.conv.{i}.bn', shape[0])


def _torchvision_inverted_residual(name, expansion):
    names = ('0.0', '0.1', '1.0', '1.1', '2', '3')
    if expansion == 1:
        names = ('0.0', '0.1', '1', '2')
    return [f'{name}.conv.{part}' for part in names]


def _layered_inverted_residual(name):
    return [
        f'{name}.layers.{part}'
        for part in ('pw1', 'bn1', 'dw', 'bn2', 'pw2', 'bn3')
    ]


def _child_inverted_residual(table, theirs, child, children, ours, channels):
    """A block whose pointwise convolutions are children.

    Args:
        table (_Table): Gets its entries.
        theirs (str): The authors' name of its stage.
        child (int): Its number among the stage's blocks of this kind.
        children (int): Their number.
        ours (str): Our name of the block.
        channels (int): Channels of its input and output.
    """
    hidden = 6 * channels
    block = f'{theirs}.blocks.{child}'
    for place, number, inputs, outputs in ((0, 1, channels, hidden),
                                           (2, 3, hidden, channels)):
        conv = f'{ours}.conv.{place}.conv'
        table.row(f'{theirs}.static_filter_attn{number}', child, children,
                  f'{conv}.adapter.filter', outputs, 1, 1, 1)
        table.gate(f'{block}.se{number}.se', f'{conv}.adapter.gate', inputs,
                   outputs)
        table.norm(f'{block}.bn{number}', f'{ours}.conv.{place}.bn', outputs)
    table.conv(f'{block}.dwconv', f'{ours}.conv.1.conv', hidden, 1, 3)
    table.norm(f'{block}.bn2', f'{ours}.conv.1.bn', hidden)


def _mobilenet_v2(width):

    def scaled(channels):
        return max(8, int(channels * width + 4) // 8 * 8)

    table = _Table()
    inputs = scaled(32)
    table.conv('features.0.0', 'backbone.conv1.conv', inputs, 3, 3)
    table.norm('features.0.1', 'backbone.conv1.bn', inputs)
    feature = 1
    # Channels, blocks, expansion; the stages in between share.
    stages = ((16, 1, 1), (24, 2, 6), (32, 3, 6), (64, 4, 6), (96, 3, 6),
              (160, 3, 6), (320, 1, 6))
    for number, (channels, blocks, expansion) in enumerate(stages, 1):
        outputs = scaled(channels)
        ours = f'backbone.layer{number}'
        if 3 <= number <= 6:
            # A whole stage lies in the place of its last block.
            theirs = f'features.{feature + blocks - 1}'
            _inverted_residual(
                table, _layered_inverted_residual(f'{theirs}.transition'),
                f'{ours}.0', inputs, outputs, expansion)
            for child in range(blocks - 2):
                _child_inverted_residual(table, theirs, child, blocks - 2,
                                         f'{ours}.{child + 1}', outputs)
            _inverted_residual(
                table, _layered_inverted_residual(f'{theirs}.last_block'),
                f'{ours}.{blocks - 1}', outputs, outputs, expansion)
            inputs = outputs
        else:
            for block in range(blocks):
                _inverted_residual(
                    table,
                    _torchvision_inverted_residual(
                        f'features.{feature + block}', expansion),
                    f'{ours}.{block}', inputs, outputs, expansion)
                inputs = outputs
        feature += blocks
    table.conv('features.18.0', 'backbone.conv2.conv', 1280, inputs, 1)
    table.norm('features.18.1', 'backbone.conv2.bn', 1280)
    table.classifier('classifier.1', 1280)
    return table


@lru_cache(maxsize=None)
def networks(prefix=PREFIX):
    """The networks the authors published.

    Args:
        prefix (str): What our keys of the backbone start with; a dot at the
            end is added as mmengine does. Defaults to 'backbone.'.

    Returns:
        tuple[Network]: ResNet-18, ResNet-50 and two MobileNetV2.
    """
    if prefix and not prefix.endswith('.'):
        prefix += '.'

    def named(entry):
        if not entry.mmkdna.startswith(PREFIX):
            return entry
        return entry._replace(mmkdna=prefix + entry.mmkdna[len(PREFIX):])

    tables = (
        ('resnet18', 'resnet/kdna-resnet18', _resnet18()),
        ('resnet50', 'resnet/kdna-resnet50', _resnet50()),
        ('mobilenet_v2', 'mobilenet_v2/kdna-mobilenet-v2', _mobilenet_v2(1)),
        ('mobilenet_v2_1d2', 'mobilenet_v2/kdna-mobilenet-v2-0.5x',
         _mobilenet_v2(0.5)),
    )
    return tuple(
        Network(name, f'configs/{config}_8xb32_in1k.py',
                tuple(map(named, table))) for name, config, table in tables)
