"""The networks that the authors published."""
from __future__ import annotations
from functools import lru_cache
from typing import NamedTuple, Tuple

from .mobilenet_v2 import mobilenet_v2
from .resnet import resnet18, resnet50
from .table import PREFIX, Entry


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

    def shapes(self, side: str) -> dict[str, tuple[int, ...]]:
        """List the shapes by key.

        Args:
            side (str): 'official' or 'mmkdna'.

        Returns:
            dict[str, tuple[int]]: Every key of that side.
        """
        return {
            getattr(entry, side): getattr(entry, f'{side}_shape')
            for entry in self.table
        }


@lru_cache(maxsize=None)
def networks(prefix: str = PREFIX) -> tuple[Network, ...]:
    """List the networks that the authors published.

    Args:
        prefix (str): What our keys of the backbone start with; a dot at the
            end is added as mmengine does. Defaults to 'backbone.'.

    Returns:
        tuple[Network]: ResNet-18, ResNet-50 and two MobileNetV2.
    """
    if prefix and not prefix.endswith('.'):
        prefix += '.'

    def named(entry: Entry) -> Entry:
        if not entry.mmkdna.startswith(PREFIX):
            return entry
        return entry._replace(mmkdna=prefix + entry.mmkdna[len(PREFIX):])

    tables = (
        ('resnet18', 'resnet/kdna-resnet18', resnet18()),
        ('resnet50', 'resnet/kdna-resnet50', resnet50()),
        ('mobilenet_v2', 'mobilenet_v2/kdna-mobilenet-v2', mobilenet_v2(1)),
        ('mobilenet_v2_1d2', 'mobilenet_v2/kdna-mobilenet-v2-0.5x',
         mobilenet_v2(0.5)),
    )
    return tuple(
        Network(name, f'configs/{config}_8xb32_in1k.py',
                tuple(map(named, table))) for name, config, table in tables)
