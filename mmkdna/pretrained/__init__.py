"""Ordinary pretrained weights made into those of parents and children."""
from .child_fitting_hook import ChildFittingHook
from .kernel_sharing_hook import KernelSharingHook
from .report import PlainReport, plain_report

__all__ = [
    'ChildFittingHook', 'KernelSharingHook', 'PlainReport', 'plain_report'
]
