"""A config, read and checked before anything is built or written."""
from __future__ import annotations
import argparse
import os
import os.path as osp
from typing import Any

from mmengine.config import Config

from ..bases import MissingBaseError
from ..hosts import missing_host
from .errors import CommandError, describe
from .work_dir import check_work_dir

CONFIGS = osp.realpath(
    osp.join(
        osp.dirname(osp.dirname(osp.abspath(__file__))), '.mim', 'configs'))
# What mmengine takes all together or not at all.
PARTS = dict(
    train=('train_dataloader', 'train_cfg', 'optim_wrapper'),
    val=('val_dataloader', 'val_cfg', 'val_evaluator'),
    test=('test_dataloader', 'test_cfg', 'test_evaluator'))


def read_config(config: str,
                cfg_options: dict[str, Any] | None = None) -> Config:
    """Read the config, with its bases, and apply --cfg-options.

    Args:
        config (str): The file.
        cfg_options (dict, optional): From the command line. Defaults to None.

    Returns:
        Config: The config.
    """
    if not osp.isfile(config):
        raise CommandError(
            f'{config} is given as config, but there is no such file in '
            f'{os.getcwd()}: the configs are in {CONFIGS}')
    for key, value in (cfg_options or {}).items():
        if _holds_dict(value):
            raise CommandError(
                f'--cfg-options gives {key} the value {value}, but it takes '
                'no dicts: give an option for each key of the dict, such as '
                f'{key}.type=KernelDNA')
    try:
        cfg = Config.fromfile(config)
        cfg.merge_from_dict(cfg_options or {})
    except MissingBaseError as error:
        raise CommandError(str(error)) from error
    except Exception as error:
        given = f' with --cfg-options {cfg_options}' * bool(cfg_options)
        raise CommandError(
            f'{config} is given as config, but{given} it cannot be read '
            f'({describe(error)}): correct it, or take one of those in '
            f'{CONFIGS}') from error
    scope = cfg.get('default_scope')
    if scope is not None and not (scope and isinstance(scope, str)):
        raise CommandError(f'default_scope = {scope!r} is given in {config}, '
                           'the name of a library is expected, such as mmdet')
    absent = missing_host(scope)
    if absent:
        raise CommandError(f'{config} is a config of {absent}')
    return cfg


def _holds_dict(value: Any) -> bool:
    """Whether mmengine has kept a dict, or its pieces, as strings."""
    if isinstance(value, (list, tuple)):
        return any(map(_holds_dict, value))
    # A format, such as '{:06}.jpg', is none.
    return isinstance(value, str) and value.startswith(('dict(', '{\'', '{"'))


def load_config(args: argparse.Namespace, task: str) -> Config:
    """Read the config and apply the command line's common arguments.

    Args:
        args (argparse.Namespace): The command line.
        task (str): What the config is for, 'train' or 'test'.

    Returns:
        Config: The config, with work_dir and launcher set.
    """
    cfg = read_config(args.config, args.cfg_options)
    for split, parts in PARTS.items():
        needs = ('model', *parts) if split == task else parts
        missing = [key for key in needs if cfg.get(key) is None]
        if missing and (split == task or len(missing) < len(parts)):
            raise CommandError(
                f'{args.config} is given as config, but it has no '
                f'{", ".join(missing)}: {", ".join(needs)} are expected, all '
                'of them' + ' or none' * (split != task) + '; most configs '
                'have them from their _base_')
        for key in (*parts, 'model'):
            value = cfg.get(key)
            # Of evaluators there may be several.
            several = 'evaluator' in key
            expected = (dict, list) if several else dict
            if value is not None and not isinstance(value, expected):
                raise CommandError(
                    f'{key} = {value!r} is given in {args.config}, a dict is '
                    'expected' + ' or a list' * several)
    name = osp.splitext(osp.basename(args.config))[0]
    cfg.work_dir = args.work_dir or cfg.get('work_dir') or osp.join(
        './work_dirs', name)
    check_work_dir(cfg.work_dir)
    cfg.launcher = args.launcher
    return cfg
