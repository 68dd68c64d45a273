"""Hooks for mmengine's Runner."""
from .kernel_sharing_hook import KernelSharingHook

__all__ = ['KernelSharingHook']
