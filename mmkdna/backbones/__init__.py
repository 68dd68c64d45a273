"""The paper's networks, by one name in each host library.

``KernelDNAResNet``, ``KernelDNAMobileNetV2`` and ``KernelDNAConvNeXt`` have no
layers of their own. Each is made of two classes:

- a mixin, in ``resnet.py``, ``mobilenet_v2.py`` or ``convnext.py``, which says
  what shares: its docstring has the arguments and where they come from;
- the class of the same network in the host library, which builds all the rest
  and stands behind the mixin in the bases.

``mmdet.py``, ``mmseg.py`` and ``mmpretrain.py`` put the two together and
register the result with that library. Nothing imports these files until a
config asks for one of the names; :func:`register_backbones` then imports the
one of the library in use. So ``type='KernelDNAResNet'`` is built over mmdet's
``ResNet`` in a config of mmdet and over mmseg's in one of mmseg, and
``type='mmpretrain.KernelDNAResNet'`` over mmpretrain's in any.
"""
from __future__ import annotations
from importlib import import_module
from importlib.util import find_spec

from ..hosts import EXTRAS, HOSTS, LENDERS

# The hosts that have the class that a backbone is built over.
BACKBONES = {
    'KernelDNAResNet': HOSTS,
    'KernelDNAMobileNetV2': HOSTS,
    'KernelDNAConvNeXt': ('mmpretrain', ),
}


def register_backbones(cfg: dict, scope: str) -> None:
    """Register a host library's KernelDNA backbones once a config asks.

    They derive from that library's own classes, and a library takes seconds
    to import; so only the one that is in use is imported.

    Args:
        cfg (dict): Config of the module about to be built.
        scope (str): Scope in which its type is looked up, unless the type has
            a prefix.

    Raises:
        KeyError: If the config names one of :data:`BACKBONES` in a scope
            that has no such library, or one without the class that the
            backbone is built over, or the library is not installed.
    """
    name = cfg.get('type')
    if not isinstance(name, str):
        return
    prefix, _, name = name.rpartition('.')
    if name not in BACKBONES:
        return
    scope = prefix or scope
    hosts = BACKBONES[name]
    lender = LENDERS.get(scope, scope)
    needed = {scope, lender}
    if lender not in hosts or not all(map(find_spec, needed)):
        installed = [host for host in hosts if find_spec(host) is not None]
        # A model of mmdet with a backbone of mmpretrain keeps its scope.
        scopes = '' if scope in EXTRAS else 'set default_scope, or '
        raise KeyError(
            f'{name} is asked for in the scope {scope!r}, but it is built '
            f'over the class of one of {hosts}, of which {installed} are '
            f'installed: {scopes}write '
            f'type=\'{(installed or hosts)[0]}.{name}\'')
    import_module(f'mmkdna.backbones.{scope}')
