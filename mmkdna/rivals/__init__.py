"""The convolutions that KernelDNA is compared with, as conv types.

Each is written from its paper and used as KernelDNA is:
``conv_cfg=dict(type='CondConv', ...)``.
"""
from .cond_conv import CondConv2d
from .kernel_warehouse import KernelWarehouse2d

CONV_TYPES = dict(CondConv=CondConv2d, KernelWarehouse=KernelWarehouse2d)

__all__ = ['CONV_TYPES', 'CondConv2d', 'KernelWarehouse2d']
