"""The runner of a config."""
from __future__ import annotations
from typing import Any, Iterator, Sequence

from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import CheckpointHook
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from ..kept_kernels import KernelKeepingHook
from .data_check import unreadable_json
from .distributed import join_on_cpu
from .errors import CommandError, describe, lack_of_room


def build_runner(cfg: Config, splits: Sequence[str]) -> Runner:
    """Build the runner, and what it would build at its start only.

    Args:
        cfg (Config): The checked config.
        splits (Sequence[str]): Those that are used of 'train', 'val' and
            'test'.

    Returns:
        Runner: The runner the config asks for, or mmengine's own.
    """
    if cfg.launcher != 'none' and get_device() == 'cpu':
        join_on_cpu(cfg)
    what, part = 'runner', None
    try:
        _fill_loaders(cfg)
        for hook in _hooks(cfg):
            # A lazy config names mmengine's class, which leaves halves.
            if hook.get('type') is CheckpointHook:
                hook['type'] = 'CheckpointHook'
        runner = (
            RUNNERS.build(cfg)
            if 'runner_type' in cfg else Runner.from_cfg(cfg))
        for split in splits:
            what = f'{split}_dataloader, {split}_cfg or {split}_evaluator'
            part = split
            getattr(runner, f'{split}_loop')
        # A FlexibleRunner leaves its own to the strategy.
        if 'train' in splits and hasattr(runner, 'build_optim_wrapper'):
            # Of an unknown one mmengine says no more than None.
            optimizer = cfg.optim_wrapper.get('optimizer')
            what = f'optim_wrapper, with the optimizer {optimizer},'
            runner.optim_wrapper = runner.build_optim_wrapper(
                runner.optim_wrapper)
        if not any(isinstance(h, KernelKeepingHook) for h in runner.hooks):
            runner.register_hook(KernelKeepingHook())
    except Exception as error:
        if lack_of_room(error):
            raise
        damaged = part and unreadable_json(cfg, part)
        if damaged:
            raise CommandError(damaged) from error
        raise CommandError(
            f'The {what} of {cfg.filename} cannot be built: '
            f'{describe(error)}. Correct its type or its options, in the '
            'config or by --cfg-options') from error
    return runner


def _fill_loaders(cfg: Config) -> None:
    """What configs of mmpretrain leave to its tools."""
    if cfg.get('default_scope') != 'mmpretrain':
        return
    for split in ('train', 'val', 'test'):
        loader = cfg.get(f'{split}_dataloader')
        if loader:
            loader.setdefault('collate_fn', dict(type='default_collate'))
            loader.setdefault('persistent_workers',
                              loader.get('num_workers', 0) != 0)
            loader.setdefault('pin_memory', get_device() != 'cpu')


def _hooks(cfg: Config) -> Iterator[dict[str, Any]]:
    """The configs of the hooks."""
    default = cfg.get('default_hooks') or {}
    for hook in (*default.values(), *(cfg.get('custom_hooks') or ())):
        if isinstance(hook, dict):
            yield hook
