"""The convolutions that KernelDNA is compared with, as conv types.

Each is written from its paper and used as KernelDNA is:
``conv_cfg=dict(type='CondConv', ...)``.
"""
from .cond_conv import CondConv2d
from .dy_conv import DyConv2d
from .kernel_warehouse import KernelWarehouse2d
from .layer_sets import LAYER_SETS
from .od_conv import ODConv2d
from .se_conv import SEConv2d
from .temperature_hook import TemperatureHook

CONV_TYPES = dict(
    CondConv=CondConv2d,
    DyConv=DyConv2d,
    KernelWarehouse=KernelWarehouse2d,
    ODConv=ODConv2d,
    SEConv=SEConv2d)

__all__ = [
    'CONV_TYPES', 'LAYER_SETS', 'CondConv2d', 'DyConv2d', 'KernelWarehouse2d',
    'ODConv2d', 'SEConv2d', 'TemperatureHook'
]
