"""What a tensor is called by the authors, and by us."""
from __future__ import annotations
from typing import List, NamedTuple, Optional, Tuple

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


class Table(List[Entry]):
    """A list of entries, added module by module."""

    def tensor(self,
               official: str,
               mmkdna: str,
               *shape: int,
               official_shape: tuple[int, ...] | None = None) -> None:
        """Add a tensor, which the authors may have in another shape."""
        self.append(
            Entry(mmkdna, shape, official,
                  shape if official_shape is None else official_shape))

    def conv(self, official: str, mmkdna: str, out_channels: int,
             in_channels: int, size: int) -> None:
        """Add a convolution without bias, whose kernel is a square."""
        self.tensor(f'{official}.weight', f'{mmkdna}.weight', out_channels,
                    in_channels, size, size)

    def norm(self, official: str, mmkdna: str, channels: int) -> None:
        """Add a batch norm."""
        for name in ('weight', 'bias', 'running_mean', 'running_var'):
            self.tensor(f'{official}.{name}', f'{mmkdna}.{name}', channels)
        self.tensor(f'{official}.num_batches_tracked',
                    f'{mmkdna}.num_batches_tracked')

    def row(self, official: str, row: int, rows: int, mmkdna: str, *shape:
            int) -> None:
        """Add a tensor that is one row of a tensor of the authors'."""
        self.append(Entry(mmkdna, shape, official, (rows, *shape), row))

    def gate(self, official: str, mmkdna: str, in_channels: int,
             out_channels: int) -> None:
        """Add a gate, whose linear layers are 1x1 convolutions there."""
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

    def adapter3x3(self, stage: str, filters: str, row: int, rows: int,
                   gate: str, mmkdna: str, channels: int) -> None:
        """Add the adapter of a ResNet's child.

        Its static factors are rows of tensors of its stage.

        Args:
            stage (str): The authors' name of the stage.
            filters (str): Their name of the factors of filters in it.
            row (int): The child's row.
            rows (int): How many there are.
            gate (str): Their name of the gate.
            mmkdna (str): Our name of the child.
            channels (int): Channels of its input and output.
        """
        self.row(f'{stage}.{filters}', row, rows, f'{mmkdna}.adapter.filter',
                 channels, 1, 1, 1)
        self.row(f'{stage}.static_spatial_attn', row, rows,
                 f'{mmkdna}.adapter.spatial', 1, 1, 3, 3)
        self.gate(gate, f'{mmkdna}.adapter.gate', channels, channels)

    def classifier(self, official: str, channels: int) -> None:
        """Add the linear layer over the 1000 classes of ImageNet."""
        self.tensor(f'{official}.weight', 'head.fc.weight', 1000, channels)
        self.tensor(f'{official}.bias', 'head.fc.bias', 1000)
