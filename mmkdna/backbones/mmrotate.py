"""The backbones over MMDetection's own classes, for MMRotate's models."""
from mmrotate.registry import MODELS

from .mmdet import KernelDNAMobileNetV2, KernelDNAResNet

for backbone in (KernelDNAResNet, KernelDNAMobileNetV2):
    MODELS.register_module(module=backbone)
