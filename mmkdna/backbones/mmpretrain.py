"""The backbones over MMPretrain's own classes."""
from mmpretrain.models.backbones import ConvNeXt, MobileNetV2, ResNet
from mmpretrain.registry import MODELS

from .convnext import KernelDNAConvNeXtMixin
from .mobilenet_v2 import KernelDNAMobileNetV2Mixin
from .resnet import KernelDNAResNetMixin, sharing_arch


@MODELS.register_module()
class KernelDNAResNet(KernelDNAResNetMixin, ResNet):
    __doc__ = KernelDNAResNetMixin.__doc__
    arch_settings = sharing_arch(ResNet.arch_settings)


@MODELS.register_module()
class KernelDNAMobileNetV2(KernelDNAMobileNetV2Mixin, MobileNetV2):
    __doc__ = KernelDNAMobileNetV2Mixin.__doc__


@MODELS.register_module()
class KernelDNAConvNeXt(KernelDNAConvNeXtMixin, ConvNeXt):
    __doc__ = KernelDNAConvNeXtMixin.__doc__
