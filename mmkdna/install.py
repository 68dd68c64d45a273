"""Every change that importing mmkdna makes to the process."""
from __future__ import annotations

from mmengine.registry import FUNCTIONS, HOOKS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.runner import CheckpointLoader

from .bases import find_mmseg_configs, find_our_configs
from .checkpoints.names import SCHEME, load_from_mmkdna
from .checkpoints.saving_hook import WholeCheckpointHook
from .conv import KernelDNAConv2d
from .fsdp import kernel_dna_wrap_policy
from .kept_kernels import KernelKeepingHook
from .pretrained import KernelSharingHook
from .reconstruction import ReconstructionHook
from .registry import link_what_is_built
from .rivals import CONV_TYPES, TemperatureHook


def install() -> None:
    """Make all changes; called once, when mmkdna is imported.

    - Types are registered with mmengine: the convolutions, the hooks and the
      wrap policy of FSDP.
    - ``CheckpointHook`` is one that a kill leaves no half of a file by.
    - Whatever a model registry builds is linked.
    - ``checkpoint='mmkdna://NAME'`` is read.
    - ``_base_ = 'mmkdna::...'`` and ``'mmseg::...'`` are found.
    """
    MMENGINE_MODELS.register_module('KernelDNA', module=KernelDNAConv2d)
    for name, conv in CONV_TYPES.items():
        MMENGINE_MODELS.register_module(name, module=conv)
    for hook in (KernelKeepingHook, KernelSharingHook, ReconstructionHook,
                 TemperatureHook):
        HOOKS.register_module(module=hook)
    HOOKS.register_module('CheckpointHook', True, WholeCheckpointHook)
    FUNCTIONS.register_module(module=kernel_dna_wrap_policy)
    link_what_is_built(MMENGINE_MODELS)
    CheckpointLoader.register_scheme(SCHEME, load_from_mmkdna)
    find_mmseg_configs()
    find_our_configs()
