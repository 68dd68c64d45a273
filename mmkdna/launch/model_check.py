"""Whether the model of a config can be built, and trained as it asks."""
from __future__ import annotations

from mmengine.config import Config
from mmengine.logging import MMLogger
from torch import nn

from ..sharing import sharing_table
from .errors import CommandError, describe
from .model import build_model
from .type_check import unknown_layers


def check_model(cfg: Config) -> nn.Module:
    """End the run if the model cannot be built.

    The runner writes its work_dir before it builds the model, so that one is
    built here to be thrown away.

    Args:
        cfg (Config): The config.

    Returns:
        nn.Module: The model.
    """
    # Nothing is said twice: what the build logs is said in the runner's log.
    MMLogger.get_instance('check_model', log_level='ERROR')
    try:
        return build_model(cfg)
    except Exception as error:
        raise CommandError(
            f'The model of {cfg.filename} cannot be built: '
            f'{unknown_layers(cfg) or describe(error)}') from error


def check_recomputing(cfg: Config, model: nn.Module) -> None:
    """End the run if DDP or FSDP would end it at its first step.

    Blocks that share a kernel are recomputed one by one, so its gradient comes
    in parts, of which DDP takes the first for all, unless told.

    Args:
        cfg (Config): The config, with its launcher.
        model (nn.Module): The model it builds.
    """
    recomputed = any(getattr(m, 'with_cp', False) for m in model.modules())
    shared = any(
        row.parent not in (None, row.name) for row in sharing_table(model))
    if cfg.launcher == 'none' or not recomputed or not shared:
        return
    given = f'with_cp=True is given in {cfg.filename}'
    strategy = cfg.get('strategy') or {}
    if strategy.get('type') == 'FSDPStrategy':
        raise CommandError(
            f'{given}, which FSDP cannot run: leave it away, and set '
            'strategy.activation_checkpointing as in docs/distributed.md')
    flexible = cfg.get('runner_type') == 'FlexibleRunner'
    key = 'strategy.model_wrapper' if flexible else 'model_wrapper_cfg'
    wrapper = (strategy.get('model_wrapper')
               if flexible else cfg.get('model_wrapper_cfg')) or {}
    if not wrapper.get('static_graph'):
        raise CommandError(
            f'{given}, where blocks share kernels, with --launcher '
            f'{cfg.launcher}: DDP needs {key}.static_graph=True then; '
            'docs/distributed.md has the lines for the config')
