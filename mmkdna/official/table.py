"""What a tensor is called by the authors, and by us."""
from typing import NamedTuple, Optional, Tuple

PREFIX = 'backbone.'


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


class Table(list):
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
