"""Processes of one run, also on a machine without a GPU."""
from __future__ import annotations
import atexit
import os
import time

import torch.distributed
from mmengine.config import Config, ConfigDict

from .errors import CommandError

# Where each launcher says which of its processes this is.
_RANKS = dict(pytorch='RANK', slurm='SLURM_PROCID', mpi='OMPI_COMM_WORLD_RANK')


def is_first_process(launcher: str) -> bool:
    """Whether this is the process of a run that writes its files.

    Args:
        launcher (str): How the processes of the run were started.

    Returns:
        bool: The answer, also before the processes have met.
    """
    return os.getenv(_RANKS.get(launcher, ''), '0') == '0'


def start_gloo() -> None:
    """Join the processes that torchrun started, on the CPU.

    gloo's threads drop their last tensors when they get Python's lock, and one
    that still waits for it when Python ends aborts the process. Hence the
    pause at the end; to destroy the process group does not wait for them while
    anything else, such as FSDP, holds the group (torch 2.11).
    """
    torch.distributed.init_process_group('gloo')
    atexit.register(time.sleep, 1)


def join_on_cpu(cfg: Config) -> None:
    """Do what mmengine's launchers do, who all select a GPU first."""
    if cfg.launcher != 'pytorch':
        raise CommandError(
            f'--launcher {cfg.launcher} is given, but this machine has no '
            'GPU, where pytorch is the only launcher: start the processes by '
            'tools/dist_train.sh or tools/dist_test.sh')
    if not torch.distributed.is_initialized():
        start_gloo()
    wrapper = dict(
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False),
        device_ids=None)
    if cfg.get('runner_type') != 'FlexibleRunner':
        cfg.model_wrapper_cfg = {
            **wrapper,
            **(cfg.get('model_wrapper_cfg') or {})
        }
        return
    strategy = cfg.setdefault('strategy', ConfigDict(type='DDPStrategy'))
    if strategy.type == 'FSDPStrategy':
        wrapper = dict(device_id='cpu')
    strategy.model_wrapper = {
        **wrapper,
        **(strategy.get('model_wrapper') or {})
    }
