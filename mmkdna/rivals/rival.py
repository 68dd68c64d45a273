"""What all conv types have in common that KernelDNA is compared with."""
from __future__ import annotations
import warnings
from typing import Any, Callable, TypeVar

import torch
from torch import Tensor, nn
from torch.fx import Proxy

from ..linking import check_patterns
from ..unit_conv import UnitConv

RivalType = TypeVar('RivalType', bound='Rival')
ModuleType = TypeVar('ModuleType', bound=nn.Module)


class Rival(UnitConv):
    """A convolution that its unit tells whether it is dynamic or plain.

    Until then, and where the options leave it out, it is an ``nn.Conv2d`` in
    every respect. A subclass has ``nn.Conv2d`` as a direct base behind this
    one, sets ``options_type``, and writes :meth:`become_dynamic` and
    :meth:`forward_dynamic`.

    Attributes:
        dynamic (bool): Whether this convolution takes part.
    """

    # That of a plain convolution; a dynamic one may have another or none.
    weight: Any

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.dynamic = False

    @classmethod
    def join(cls: type[RivalType], convs: dict[str, RivalType]) -> None:
        """Tell the convolutions of a unit their parts.

        Args:
            convs (dict[str, Rival]): Those of this type by their names in the
                backbone, neck or head, in forward order.

        Raises:
            ValueError: If a ``name_pattern`` matches nothing, or an option
                does not fit a convolution. Nothing is changed then.
        """
        check_patterns({name: conv.options for name, conv in convs.items()})
        taking = {
            name: conv
            for name, conv in convs.items()
            if isinstance(conv, nn.Conv2d) and conv.options.take(name, conv)
        }
        if not taking:
            warnings.warn(
                f'{next(iter(convs.values())).options.conv_type}: of '
                f'{len(convs)} convolutions none takes part, so all of them '
                'run as plain convolutions: kernel_sizes, min_channels, '
                'name_pattern, grouped and shortcuts in conv_cfg choose')
        cls.join_taking(taking)
        for conv in convs.values():
            conv.linked = True

    @classmethod
    def join_taking(cls: type[RivalType], convs: dict[str, RivalType]) -> None:
        """Make those dynamic that take part; the options have been checked.

        A subclass whose convolutions need each other overrides this.

        Args:
            convs (dict[str, Rival]): Those that take part, by name.

        Raises:
            ValueError: If an option does not fit a convolution. Nothing is
                changed then.
        """
        for conv in convs.values():
            conv.become_dynamic()
            conv.dynamic = True

    def become_dynamic(self) -> None:
        """Get what a dynamic convolution has, on this one's device.

        New parameters are as frozen as the kernel, and new modules are in the
        mode of this one: :meth:`adopt` sees to both.
        """
        raise NotImplementedError

    def forward_dynamic(self, x: Tensor) -> Tensor:
        """Run the convolution of the method.

        Args:
            x (Tensor): Shape (N, C_in, H, W); N may be 0.

        Returns:
            Tensor: Shape (N, C_out, H', W').
        """
        raise NotImplementedError

    def adopt(self, module: ModuleType) -> ModuleType:
        """Make a new module one of this convolution's.

        Args:
            module (nn.Module): The module.

        Returns:
            nn.Module: The same on the device and of the type of the kernel,
            as frozen as it, and in the mode of this convolution.
        """
        module.to(self.weight).requires_grad_(self.weight.requires_grad)
        return module.train(self.training)

    def forward(self, x: Tensor) -> Tensor:
        """Run the convolution.

        Args:
            x (Tensor): Shape (N, C_in, H, W).

        Returns:
            Tensor: Shape (N, C_out, H', W').
        """
        if isinstance(x, Proxy):
            return self.trace_as_leaf(x)
        self.warn_if_unlinked()
        if self.dynamic:
            return self.forward_dynamic(x)
        return super().forward(x)

    def plain_start(self, weight: Tensor) -> dict[str, Tensor]:
        """Give every parameter its start for a pretrained plain kernel.

        Args:
            weight (Tensor): Shape (C_out, C_in / groups, kH, kW).

        Returns:
            dict[str, Tensor]: By key in this module, but for the bias, which
            is the plain convolution's own. With these, the convolution is as
            near to the plain one as the method allows.
        """
        raise NotImplementedError

    def _load_from_state_dict(self, state_dict: dict[str, Tensor], prefix: str,
                              *args: Any) -> None:
        weight = state_dict.get(f'{prefix}weight')
        brought = {
            key[len(prefix):]
            for key in state_dict if key.startswith(prefix)
        }
        if (self.dynamic and brought <= {'weight', 'bias'}
                and weight is not None and weight.shape == self.weight_shape):
            del state_dict[f'{prefix}weight']
            weight = weight.detach()
            if not weight.is_floating_point():
                weight = weight.float()
            for key, value in self.plain_start(weight).items():
                state_dict[prefix + key] = value
        super()._load_from_state_dict(state_dict, prefix, *args)

    def extra_repr(self) -> str:
        """Say whether it takes part, behind what nn.Conv2d says."""
        part = 'dynamic' if self.dynamic else 'plain'
        return f'{super().extra_repr()}, {part}'


class ExpertConv(Rival):
    """A rival with several kernels, its experts, in the place of one.

    ``weight`` shows the first of them. To whatever initialises convolutions
    by :meth:`apply`, as mmengine's ``init_cfg`` does, each is shown in turn,
    so all are drawn as the kernel of a plain convolution is.

    Attributes:
        experts (nn.Parameter): Shape (K, C_out, C_in / groups, kH, kW), of a
            dynamic convolution.
    """
    experts: nn.Parameter

    # Which expert ``weight`` shows.
    _shown: int = 0

    def make_experts(self, number: int) -> None:
        """Replace the kernel by experts.

        Args:
            number (int): How many. The first is the kernel; the others are
                drawn from a normal distribution as wide as its values.
        """
        weight = self.weight
        experts = weight.detach().new_empty((number, *weight.shape))
        with torch.no_grad():
            experts.normal_().mul_(weight.std())
            experts[0] = weight
        del self.weight
        self.experts = nn.Parameter(experts, weight.requires_grad)

    def apply(self, fn: Any) -> ExpertConv:
        """Apply a function to this module and its children.

        Args:
            fn (callable): Gets each child, and this module once for each
                expert, which ``weight`` is then.

        Returns:
            ExpertConv: Itself.
        """
        super().apply(fn)
        try:
            for self._shown in range(1,
                                     len(self.experts) if self.dynamic else 0):
                fn(self)
        finally:
            self._shown = 0
        return self

    def _apply(self, fn: Callable[[Tensor], Tensor], *args: Any,
               **kwargs: Any) -> ExpertConv:

        def apply_to_filters(tensor: Tensor) -> Tensor:
            # A memory format such as channels_last is one of kernels.
            if tensor.dim() != 5:
                return fn(tensor)
            return fn(tensor.flatten(0, 1)).unflatten(0, tensor.shape[:2])

        return super()._apply(apply_to_filters, *args, **kwargs)

    def _conv_forward(self, x: Tensor, weight: Tensor,
                      bias: Tensor | None) -> Tensor:
        # efficient_conv_bn_eval comes here past forward, with one kernel.
        if self.dynamic:
            raise RuntimeError(
                f'a {type(self).__name__} is given one kernel to convolve '
                f'with, but it mixes {len(self.experts)} experts for each '
                'image: efficient_conv_bn_eval is not possible, turn it off')
        return super()._conv_forward(  # type: ignore[misc]
            x, weight, bias)

    def __getattr__(self, name: str) -> Any:
        if name == 'weight' and 'experts' in self.__dict__['_parameters']:
            return self.experts[self._shown]
        return super().__getattr__(name)

    def register_parameter(self, name: str,
                           param: nn.Parameter | None) -> None:
        """Register a parameter, which setting an attribute does as well.

        Raises:
            RuntimeError: If it would be a kernel beside the experts, as who
                folds a norm sets one.
        """
        if name == 'weight' and 'experts' in self._parameters:
            raise RuntimeError(
                f'a kernel is being set on a {type(self).__name__}, which '
                f'mixes {len(self.experts)} experts for each image: fusing a '
                'norm into it is not possible')
        super().register_parameter(name, param)
