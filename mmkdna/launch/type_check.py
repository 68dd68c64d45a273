"""The layers that a model's config names and that no registry has."""
from __future__ import annotations
import difflib
from typing import Any, Iterator

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope


def unknown_layers(cfg: Config) -> str:
    """Say which types of layers are not registered.

    mmcv, which builds the layers of a ``conv_cfg`` or ``norm_cfg``, says no
    more of one that it does not find than ``None``.

    Args:
        cfg (Config): Config of a model.

    Returns:
        str: What is wrong and what to do; empty if nothing is.
    """
    said = []
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        with MODELS.switch_scope_and_registry(None) as registry:
            for path, name in _layers(cfg.model, 'model'):
                if registry.get(name) is None:
                    said.append(f'{path}.type={name}{_nearest(name)}')
    if not said:
        return ''
    return (f'{", ".join(said)} is given, but no registry has that name: '
            'correct it, or add the module that registers it to '
            'custom_imports, as in custom_imports=dict(imports=[\'mmkdna\'])')


def _layers(node: Any, path: str) -> Iterator[tuple[str, str]]:
    """The type of each conv_cfg, norm_cfg and so on, and where it stands."""
    items = node.items() if isinstance(node, dict) else enumerate(node)
    for key, value in items:
        here = f'{path}.{key}'
        if str(key).endswith(('conv_cfg', 'norm_cfg')):
            if value and isinstance(value.get('type'), str):
                yield here, value['type']
        elif isinstance(value, (dict, list, tuple)):
            yield from _layers(value, here)


def _nearest(name: str) -> str:
    known = {known.lower(): known for known in MODELS.module_dict}
    near = difflib.get_close_matches(name.lower(), known, n=1)
    return f' (the nearest registered one is {known[near[0]]})' if near else ''
