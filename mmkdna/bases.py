"""Configs that inherit from those of a host library, or from ours."""
from __future__ import annotations
import os.path as osp
from importlib.util import find_spec

from mmengine.config import Config, utils
from mmengine.utils import is_installed

from .hosts import EXTRAS, missing_host


class MissingBaseError(FileNotFoundError):
    """A config inherits from one that is not installed."""


def find_mmseg_configs() -> None:
    """Make ``_base_ = 'mmseg::...'`` work for both distributions of mmseg.

    mmengine finds a scope's configs by the name of its distribution, and knows
    only ``mmsegmentation``; that of the maintained fork is
    ``onedl-mmsegmentation``. By its module name it finds either.
    """
    name = utils.MODULE2PACKAGE['mmseg']
    if not is_installed(name) and find_spec('mmseg') is not None:
        utils.MODULE2PACKAGE['mmseg'] = 'mmseg'


def find_our_configs() -> None:
    """Make ``_base_ = 'mmkdna::...'`` work, and say what a missing base needs.

    mmengine would look up the datasets of such a base in the scope ``mmkdna``,
    which has none: they belong to the config's default_scope, as those of a
    base that is given by its path.
    """
    utils.MODULE2PACKAGE['mmkdna'] = 'mmkdna'
    find_cfg_path = Config._get_cfg_path

    def get_cfg_path(cfg_path: str, filename: str) -> tuple[str, str | None]:
        try:
            path, scope = find_cfg_path(cfg_path, filename)
        except (AssertionError, ModuleNotFoundError, FileNotFoundError):
            raise MissingBaseError(_explain_missing_base(cfg_path,
                                                         filename)) from None
        return path, None if scope == 'mmkdna' else scope

    Config._get_cfg_path = staticmethod(get_cfg_path)


def _explain_missing_base(cfg_path: str, filename: str) -> str:
    """Say why a base was not found, and what to do."""
    given = f'{filename} has _base_ = {cfg_path!r}'
    host, _, name = cfg_path.partition('::')
    if host not in ('mmkdna', *EXTRAS):
        return (f'{given}, but mmengine finds no configs of {host}: give a '
                f'path, or one of {", ".join(EXTRAS)} or mmkdna')
    absent = missing_host(host)
    if absent:
        return f'{given}, but {absent}'
    spec = find_spec(host)
    assert spec is not None and spec.origin is not None
    folder = osp.join(osp.dirname(spec.origin), '.mim')
    return (f'{given}, but the {host} that is installed has no {name} in '
            f'{osp.join(folder, "configs")}: correct the name, or install a '
            f'version of {host} that has this config')
