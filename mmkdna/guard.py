"""What must not be done to a kernel that others share, and what says so."""
from __future__ import annotations
from collections import OrderedDict
from typing import Any, NoReturn

from torch import nn


class _GuardedParameters(OrderedDict):
    """Parameters of a parent or child, whose weight is not its own alone."""

    def __missing__(self, name: str) -> NoReturn:
        if name == 'weight':
            name = ('a child owns no weight, it derives its kernel: '
                    'mmkdna.switch_to_deploy(model) gives each child its own')
        raise KeyError(name)

    def __delitem__(self, name: str) -> None:
        # torch.nn.utils.weight_norm does so, and all it leaves are norms.
        if name == 'weight':
            _refuse('weight_g', 'parent or child')
        super().__delitem__(name)


def _refuse(name: str, role: str) -> NoReturn:
    raise RuntimeError(
        f'{name} is being set on a {role}, whose kernel is not its own '
        'alone: torch.nn.utils.parametrizations has what spectral_norm, '
        'weight_norm and their like do in a form that children see, and after '
        'mmkdna.switch_to_deploy(model) any form works')


class KernelGuard(nn.Module):
    """Refuses what would make the kernels of parents and children wrong.

    Folding a norm into a parent's kernel, or computing it anew before each
    forward, would change its children; and a child has no kernel of its own
    to fold into. Stands before ``nn.Conv2d`` in the bases of
    :class:`mmkdna.KernelDNAConv2d`, whose attributes it reads.
    """

    # While load_state_dict(assign=True) puts parameters in place.
    _loading = False
    # The kernel or bias that was there before somebody set another one.
    _replaced: tuple[str, nn.Parameter] | None = None

    def guard_parameters(self) -> None:
        """Let what takes the weight past attributes say what to do instead."""
        self.__dict__['_parameters'] = _GuardedParameters(self._parameters)

    def unguard_parameters(self) -> None:
        """Let go of the parameters of what shares no more."""
        self.__dict__['_parameters'] = OrderedDict(self._parameters)
        self._replaced = None

    def __getattr__(self, name: str) -> Any:
        # Every look at a parameter comes here, so the rare case comes last.
        try:
            return super().__getattr__(name)
        except AttributeError:
            if name != 'weight' or not self.__dict__.get('_parent'):
                raise
        raise AttributeError(
            f'a child owns no weight: this one derives its kernel from '
            f'{self.parent_name!r}; kernel() returns it, and '
            'mmkdna.switch_to_deploy(model) gives each child its own, '
            'which fusing and exporting need')

    def register_parameter(self, name: str,
                           param: nn.Parameter | None) -> None:
        """Register a parameter, which setting an attribute does as well.

        Args:
            name (str): Its name.
            param (nn.Parameter, optional): The parameter.

        Raises:
            RuntimeError: If it replaces the kernel of a parent or child by
                one that is computed right before a forward, which children
                would not see, or if a norm is being folded into a parent. A
                parent has then the kernel and bias it had before.
        """
        shares = self.__dict__.get('num_children')
        if name.startswith('weight_') and (shares
                                           or self.__dict__.get('_parent')):
            if name == 'weight_orig' and 'weight' not in self._parameters:
                super().register_parameter('weight', param)
            _refuse(name, self.role)
        if shares and name in ('weight', 'bias') and not self._loading:
            self._refuse_folding(name, param)
        super().register_parameter(name, param)

    def _refuse_folding(self, name: str, param: nn.Parameter | None) -> None:
        """Tell a norm that is folded into a parent from other weights for it.

        Whoever folds a norm sets another kernel and another bias, in either
        order, or a bias where there was none. What FSDP puts in place are
        parts of the same weights, or all of them after it has deleted them.
        """
        before = self._parameters.get(name)
        if param is None or param is before or name not in self._parameters:
            return
        if before is not None and (before.shape != param.shape or hasattr(
                before, 'placements') or hasattr(param, 'placements')):
            return
        if before is None:
            folded = name == 'bias'
        else:
            folded = self._replaced is not None and self._replaced[0] != name
        if folded:
            if self._replaced is not None:
                # As it was: children derive from it.
                OrderedDict.__setitem__(self._parameters, *self._replaced)
                self._replaced = None
            raise RuntimeError(
                'a norm is being folded into a convolution from whose kernel '
                f'{self.num_children} others derive theirs: call '
                'mmkdna.switch_to_deploy(model) before fusing; to give it '
                'another kernel and bias, use load_state_dict or copy_')
        if before is not None:
            self._replaced = name, before

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        self._loading = True
        try:
            super()._load_from_state_dict(*args, **kwargs)
        finally:
            self._loading = False

    def train(self, mode: bool = True) -> KernelGuard:
        """Set train or eval mode; what was set before is no folding.

        Args:
            mode (bool): Whether train mode. Defaults to True.

        Returns:
            KernelGuard: Itself.
        """
        self._replaced = None
        super().train(mode)
        return self

    def __delattr__(self, name: str) -> None:
        # As FSDP and torch.nn.utils.parametrize do, who put it back.
        parameters = self._parameters
        if isinstance(parameters, _GuardedParameters) and name in parameters:
            OrderedDict.__delitem__(parameters, name)
        else:
            super().__delattr__(name)

    def __str__(self) -> str:
        # torch.nn.utils.parametrizations asks for a child's weight, and says
        # with this string that there is none.
        if self._parent and self.parent is not self:
            return (f'{self!r}, which derives its kernel (kernel() returns '
                    'it, mmkdna.switch_to_deploy(model) gives it its own),')
        return repr(self)
