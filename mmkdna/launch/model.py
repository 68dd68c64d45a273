"""A model of any host library, from its config."""
from __future__ import annotations
import copy
from pathlib import Path

from mmengine.config import Config
from mmengine.registry import MODELS, DefaultScope
from mmengine.runner.checkpoint import load_state_dict
from torch import nn

from ..checkpoints.files import CheckpointError, load_file
from ..checkpoints.names import SCHEME, resolve
from .errors import CommandError


def build_model(cfg: Config) -> nn.Module:
    """Build the model of a config, as a runner does.

    Args:
        cfg (Config): Config of a model; it is not changed.

    Returns:
        nn.Module: The model, on the CPU.
    """
    model = copy.deepcopy(dict(cfg.model))
    # Where mmpretrain has it; the Runner looks there as well.
    if cfg.get('data_preprocessor'):
        model.setdefault('data_preprocessor',
                         copy.deepcopy(cfg.data_preprocessor))
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope')):
        return MODELS.build(model)


def init_model(config: str | Path | Config,
               checkpoint: str | Path | None = None,
               strict: bool = True) -> nn.Module:
    """Build a model on the CPU, in eval mode.

    Args:
        config (str | Config): Config of a model of mmdet, mmseg or mmpretrain.
        checkpoint (str, optional): File with its weights. Defaults to None.
        strict (bool): Whether their keys have to be the model's. Defaults to
            True.

    Returns:
        nn.Module: The model.

    Raises:
        CheckpointError: If the file cannot be read.
        RuntimeError: If its keys are not the model's.
    """
    if isinstance(config, str):
        config = Config.fromfile(config)
    model = build_model(config)
    if checkpoint is not None:
        loaded = load_file(checkpoint)
        load_state_dict(
            model,
            loaded.get('state_dict', loaded),
            strict=strict,
            logger='current')
    return model.eval()


def checkpoint_file(checkpoint: str) -> str:
    """Find the file of a checkpoint.

    Args:
        checkpoint (str): A file, or 'mmkdna://NAME'.

    Returns:
        str: The file.

    Raises:
        CheckpointError: If there are no released weights of that name.
    """
    if checkpoint.startswith(SCHEME):
        return resolve(checkpoint[len(SCHEME):])
    return checkpoint


def load_trained(cfg: Config, config: str, checkpoint: str) -> nn.Module:
    """Build the model that a command is given with its weights.

    Args:
        cfg (Config): The config.
        config (str): Its file.
        checkpoint (str): The file with the weights, or 'mmkdna://NAME'.

    Returns:
        nn.Module: The model, on the CPU, in eval mode.

    Raises:
        CommandError: If they do not belong together, or cannot be read.
    """
    try:
        return init_model(cfg, checkpoint_file(checkpoint))
    except (CheckpointError, FileNotFoundError, RuntimeError) as error:
        raise CommandError(
            f'{checkpoint} is given, the checkpoint of a model of {config} is '
            f'expected: {error}') from error
