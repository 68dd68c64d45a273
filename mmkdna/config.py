"""Configs that inherit from a host library's."""
from importlib.util import find_spec

from mmengine.config import utils
from mmengine.utils import is_installed


def find_mmseg_configs():
    """Make ``_base_ = 'mmseg::...'`` work whatever mmseg's package is called.

    mmengine finds a scope's configs by the name of its distribution, and knows
    only ``mmsegmentation``; that of the maintained fork is
    ``onedl-mmsegmentation``. By its module name it finds either.
    """
    name = utils.MODULE2PACKAGE['mmseg']
    if not is_installed(name) and find_spec('mmseg') is not None:
        utils.MODULE2PACKAGE['mmseg'] = 'mmseg'
