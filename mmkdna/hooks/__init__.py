"""Hooks for mmengine's Runner."""
from .child_fitting_hook import ChildFittingHook
from .kernel_sharing_hook import KernelSharingHook

__all__ = ['ChildFittingHook', 'KernelSharingHook']
