"""The paper's networks, by one name in each host library."""
from importlib import import_module
from importlib.util import find_spec

from ..hosts import EXTRAS, HOSTS, LENDERS

# The libraries that have the class a backbone is built over.
BACKBONES = {
    'KernelDNAResNet': HOSTS,
    'KernelDNAMobileNetV2': HOSTS,
    'KernelDNAConvNeXt': ('mmpretrain', ),
}


def register_backbones(cfg, scope):
    """Register a host library's KernelDNA backbones once a config asks.

    They derive from that library's own classes, which takes seconds to
    import; so only the library that is in use is.

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
