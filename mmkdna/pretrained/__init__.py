"""Ordinary pretrained weights made into those of parents and children."""
from .kernel_sharing_hook import KernelSharingHook
from .report import PlainReport, plain_report

__all__ = ['KernelSharingHook', 'PlainReport', 'plain_report']
