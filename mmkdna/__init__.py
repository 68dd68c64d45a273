"""KernelDNA, dynamic convolution by sharing kernels, for OpenMMLab."""
from .checkpoints.names import load_from_mmkdna  # noqa: F401
from .config import find_mmseg_configs, find_our_configs
from .conv import KernelDNAConv2d
from .deploy import switch_to_deploy
from .fsdp import kernel_dna_wrap_policy
from .hooks import ChildFittingHook, KernelSharingHook
from .linking import Link, link_kernels, sharing_table
from .options import SharingOptions
from .registry import MODELS
from .version import __version__

find_mmseg_configs()
find_our_configs()

__all__ = [
    'ChildFittingHook', 'KernelDNAConv2d', 'KernelSharingHook', 'Link',
    'MODELS', 'SharingOptions', '__version__', 'kernel_dna_wrap_policy',
    'link_kernels', 'sharing_table', 'switch_to_deploy'
]
