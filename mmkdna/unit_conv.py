"""What the conv types of this package have in common."""
from __future__ import annotations
import warnings
from typing import Any, ClassVar

import torch
from torch import nn
from torch.fx import Proxy

from .options import LayerChoice


class UnitConv(nn.Module):
    """A convolution that learns its part when its unit is built.

    A conv type is built one by one, without a word of its name or its
    neighbours. So it is built as a plain ``nn.Conv2d``, and the unit in which
    it stands, a backbone, neck or head, tells it its part afterwards
    (:func:`mmkdna.link_kernels`).

    Stands before ``nn.Conv2d`` in the bases of a class, which is to be a
    direct base: mmengine looks for ``init_cfg``'s ``layer='Conv2d'`` no
    further.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int | tuple): Size of the kernel.
        stride (int | tuple): Stride. Defaults to 1.
        padding (int | tuple | str): Padding of the input. Defaults to 0.
        dilation (int | tuple): Dilation of the kernel. Defaults to 1.
        groups (int): Groups of channels. Defaults to 1.
        bias (bool): Whether there is a bias. Defaults to True.
        padding_mode (str): As in ``nn.Conv2d``. Defaults to 'zeros'.
        device (torch.device, optional): Defaults to None.
        dtype (torch.dtype, optional): Defaults to None.
        **options: Those of :attr:`options_type`.

    Attributes:
        options (LayerChoice): The options.
        linked (bool): Whether the unit has told this convolution its part.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an option has a value that cannot work.
    """

    # Of the nn.Conv2d behind this class.
    in_channels: int
    out_channels: int
    groups: int
    kernel_size: tuple[int, ...]
    options: LayerChoice

    options_type: ClassVar[type[LayerChoice]] = LayerChoice

    # Set by every new convolution, cleared by the warning: a model built by
    # hand and not linked warns once, not once per layer and step.
    _warn_unlinked = False

    def __init__(self,
                 in_channels: int,
                 out_channels: int,
                 kernel_size: int | tuple[int, int],
                 stride: int | tuple[int, int] = 1,
                 padding: int | tuple[int, int] | str = 0,
                 dilation: int | tuple[int, int] = 1,
                 groups: int = 1,
                 bias: bool = True,
                 padding_mode: str = 'zeros',
                 device: torch.device | str | None = None,
                 dtype: torch.dtype | None = None,
                 **options: Any) -> None:
        super().__init__(
            in_channels,
            out_channels,
            kernel_size,
            stride=stride,
            padding=padding,
            dilation=dilation,
            groups=groups,
            bias=bias,
            padding_mode=padding_mode,
            device=device,
            dtype=dtype)
        self.options = self.options_type.parse(options)
        self.linked = False
        UnitConv._warn_unlinked = True

    @property
    def weight_shape(self) -> tuple[int, ...]:
        """tuple[int]: Shape of one kernel, (C_out, C_in / groups, kH, kW)."""
        return (self.out_channels, self.in_channels // self.groups,
                *self.kernel_size)

    @property
    def qconfig(self) -> Any:
        """Any: What ``torch.ao.quantization`` sets; nothing unless it does.

        It swaps what is an ``nn.Conv2d`` and no subclass of it, and says
        nothing of what it leaves in float. None leaves it so, as there.

        Raises:
            RuntimeError: If anything but None is set.
        """
        try:
            return self.__dict__['qconfig']
        except KeyError:
            raise AttributeError('qconfig') from None

    @qconfig.setter
    def qconfig(self, value: Any) -> None:
        if value is not None:
            self._refuse_quantization()
        self.__dict__['qconfig'] = value

    @qconfig.deleter
    def qconfig(self) -> None:
        del self.__dict__['qconfig']

    def _refuse_quantization(self) -> None:
        raise RuntimeError(
            f'a {type(self).__name__} is to be quantized, but '
            'torch.ao.quantization swaps nn.Conv2d only, and would leave this '
            'one in float: quantize the file that '
            'tools/deployment/export_onnx.py writes after '
            'mmkdna.switch_to_deploy(model), or say qconfig = None on the '
            'convolutions that are to stay in float')

    def trace_as_leaf(self, x: Proxy) -> Any:
        """Have torch.fx see one convolution, as it sees an ``nn.Conv2d``.

        mmengine's ``efficient_conv_bn_eval`` looks for it.

        Args:
            x (Proxy): The input.

        Returns:
            Proxy: The output.
        """
        tracer: Any = x.tracer
        if type(tracer).__name__ == 'QuantizationTracer':
            self._refuse_quantization()
        return tracer.create_proxy('call_module', tracer.path_of_module(self),
                                   (x, ), {})

    def warn_if_unlinked(self) -> None:
        """Warn, once, that nothing has told the convolutions their parts."""
        if not self.linked and UnitConv._warn_unlinked:
            UnitConv._warn_unlinked = False
            warnings.warn(
                f'{self.options.conv_type} convolutions run as plain ones, '
                'since nothing linked them: call mmkdna.link_kernels(model) '
                'on a model built by hand, and import mmkdna '
                '(custom_imports) before building one from a config')
