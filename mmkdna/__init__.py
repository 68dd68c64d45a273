"""KernelDNA, dynamic convolution by sharing kernels, for OpenMMLab."""
from .conv import KernelDNAConv2d
from .deploy import switch_to_deploy
from .fsdp import kernel_dna_wrap_policy
from .install import install
from .kept_kernels import KernelKeepingHook, kept_kernels
from .linking import Link
from .options import SharingOptions
from .pretrained import KernelSharingHook
from .reconstruction import ReconstructionHook
from .registry import MODELS
from .sharing import sharing_table
from .unit import link_kernels
from .version import __version__

install()

__all__ = [
    'KernelDNAConv2d', 'KernelKeepingHook', 'KernelSharingHook', 'Link',
    'MODELS', 'ReconstructionHook', 'SharingOptions', '__version__',
    'kept_kernels', 'kernel_dna_wrap_policy', 'link_kernels', 'sharing_table',
    'switch_to_deploy'
]
