"""The conv type ``KernelDNA``."""
from __future__ import annotations
import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.fx import Proxy
from torch.nn.utils import parametrize

from .adapter import Adapter
from .guard import KernelGuard
from .modulated_conv import modulated_conv2d, product
from .options import SharingOptions
from .unit_conv import UnitConv


class KernelDNAConv2d(KernelGuard, UnitConv, nn.Conv2d):
    r"""A convolution that may derive its kernel from another one.

    It is built as a plain ``nn.Conv2d``. Linking (:func:`mmkdna.link_kernels`,
    which a model built through an OpenMMLab registry has behind it) then makes
    it one of three:

    - 'plain': an ``nn.Conv2d`` in every respect;
    - 'parent': the same, but its kernel serves children as well;
    - 'child': it owns no kernel. With the parent's kernel :math:`W`, the
      static factors :math:`f` and :math:`s` and the gate :math:`g`,

      .. math:: y = \text{conv}(x \cdot g(x), W (1 + f)(1 + s)) + b

    The kernel of a child is the same for all images, so the convolution costs
    what a plain one does. It is derived in every forward, unless
    :func:`mmkdna.kept_kernels` keeps it for a while. With ``share=False`` a
    child is its own parent and owns its kernel. Source: arXiv 2503.23379.

    Args:
        in_channels (int): Channels of the input.
        out_channels (int): Channels of the output.
        kernel_size (int | tuple): Size of the kernel.
        stride (int | tuple): Stride. Defaults to 1.
        padding (int | tuple | str): Padding of the input. Defaults to 0.
        dilation (int | tuple): Dilation of the kernel. Defaults to 1.
        groups (int): Groups of channels. Defaults to 1.
        bias (bool): Whether there is a bias; a child has its own. Defaults
            to True.
        padding_mode (str): As in ``nn.Conv2d``. Defaults to 'zeros'.
        device (torch.device, optional): Defaults to None.
        dtype (torch.dtype, optional): Defaults to None.
        **options: See :class:`mmkdna.options.SharingOptions`.

    Attributes:
        options (SharingOptions): The options.
        role (str): 'plain', 'parent' or 'child'.
        parent (KernelDNAConv2d | None): A child's parent.
        parent_name (str | None): Its name in the backbone, neck or head.
        linked (bool): Whether linking has seen this convolution.

    Raises:
        TypeError: If there is no such option.
        ValueError: If an option has a value that cannot work.
    """

    options_type = SharingOptions
    options: SharingOptions

    # Of the keys and shapes in a state dict, which says it beside them. Who
    # changes these raises it, and has _load_from_state_dict take the old ones.
    _version = 1

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.adapter: Adapter | None = None
        self.num_children = 0
        self.parent_name: str | None = None
        # In a tuple, the parent is no submodule: it appears once in the state
        # dict, and deepcopy and pickle still follow it.
        self._parent: tuple[KernelDNAConv2d, ...] = ()
        self._kept_kernel: Tensor | None = None
        # Until the first training forward after it became a convolution of
        # its own.
        self._was_child = False

    @property
    def parent(self) -> KernelDNAConv2d | None:
        """KernelDNAConv2d | None: The parent of a child."""
        return self._parent[0] if self._parent else None

    @property
    def role(self) -> str:
        """str: 'plain', 'parent' or 'child'."""
        if self._parent:
            return 'child'
        return 'parent' if self.num_children else 'plain'

    @property
    def keeps_own_kernel(self) -> bool:
        """bool: Whether a child still computes with its pretrained kernel."""
        return 'own_weight' in self._buffers

    def kernel(self) -> Tensor:
        """The kernel this convolution computes with.

        Returns:
            Tensor: Shape (C_out, C_in / groups, kH, kW). A child's is derived
            from its parent's, unless :func:`mmkdna.kept_kernels` keeps it and
            no gradient is asked for.
        """
        return product(*self._kernel_parts())

    def keep_kernel(self) -> None:
        """Derive a child's kernel, and compute with it without gradients.

        It is forgotten by :meth:`forget_kernel`, by a switch to train or eval
        mode and by a move to another device or type, and no copy has it.
        """
        with torch.no_grad():
            self._kept_kernel = product(*self._derivation())

    def forget_kernel(self) -> None:
        """Derive a child's kernel in every forward again."""
        self._kept_kernel = None

    def _kernel_parts(self) -> tuple[Tensor, Tensor | None]:
        """What this convolution computes with, as kernel and factors."""
        if not self._parent:
            return self.weight, None
        if self._kept_kernel is not None and not torch.is_grad_enabled():
            return self._kept_kernel, None
        return self._derivation()

    def _derivation(self) -> tuple[Tensor, Tensor | None]:
        """A kernel and the factors that make it a child's; None for ones."""
        weight = self._parent[0].weight
        if weight.dim() < 4:
            raise RuntimeError(
                f'the kernel of {self.parent_name!r}, from which a child '
                f'derives its own, has the shape {tuple(weight.shape)} here, '
                f'{self.weight_shape} is expected: FSDP has the two in '
                'different units; auto_wrap_policy=\'kernel_dna_wrap_policy\' '
                'keeps parents and children together')
        assert self.adapter is not None
        if self.keeps_own_kernel:
            kernel = self.adapter.derive(weight)
            return kernel.lerp(
                self.own_weight.to(kernel), self.own_share.to(kernel)), None
        return weight, self.adapter.factors()

    def make_adapter(self) -> Adapter:
        """Make the adapter that this convolution would have as a child.

        Returns:
            Adapter: On the device, of the type, in the mode and as frozen as
            the kernel.

        Raises:
            ValueError: If the gate cannot be made: ``rd_ratio`` leaves it no
                channel, or its norm does not fit the channels.
        """
        adapter = Adapter(self.weight_shape, self.in_channels, self.options)
        # A frozen stage stays frozen, a stage in eval mode stays in it.
        adapter.to(self.weight).requires_grad_(self.weight.requires_grad)
        return adapter.train(self.training)

    def check_parent(self, parent: KernelDNAConv2d, parent_name: str) -> None:
        """Check that this convolution can become a child of another one.

        Args:
            parent (KernelDNAConv2d): A plain convolution or a parent; with
                ``share=False`` this convolution itself.
            parent_name (str): Its name in the backbone, neck or head.

        Raises:
            ValueError: If the two do not fit.
        """
        if (self.role != 'plain' or parent.role == 'child'
                or (parent is self) == self.options.share
                or parent.weight_shape != self.weight_shape
                or parent.groups != self.groups):
            raise ValueError(
                f'KernelDNA: {self} cannot derive its kernel from '
                f'{parent_name}, {parent}: a plain convolution and a plain or '
                'parent convolution of the same kernel shape are expected')

    def derive_from(self,
                    parent: KernelDNAConv2d,
                    parent_name: str,
                    adapter: Adapter | None = None) -> None:
        """Become a child: get an adapter, and drop an own kernel.

        Args:
            parent (KernelDNAConv2d): See :meth:`check_parent`.
            parent_name (str): See :meth:`check_parent`.
            adapter (Adapter, optional): From :meth:`make_adapter`. Defaults
                to None, a new one.

        Raises:
            ValueError: See :meth:`check_parent` and :meth:`make_adapter`.
        """
        self.check_parent(parent, parent_name)
        self.adapter = adapter or self.make_adapter()
        if parent is not self:
            if self.options.keep_own_kernel:
                self.register_buffer('own_weight', self.weight.detach())
                self.register_buffer('own_share', self.weight.new_ones(()))
            del self.weight
            parent.num_children += 1
        for conv in (self, parent):
            conv.guard_parameters()
        self._parent = (parent, )
        self.parent_name = parent_name

    def drop_own_weight(self) -> None:
        """Drop a child's pretrained kernel: from now on it derives it only."""
        for name in ('own_weight', 'own_share'):
            self._buffers.pop(name, None)

    @torch.no_grad()
    def switch_to_deploy(self) -> None:
        """Become independent: a child gets its derived kernel as its own.

        The batch norm of its gate is folded into the gate. A parent becomes a
        plain convolution once no child derives from it.
        """
        if parametrize.is_parametrized(self, 'weight'):
            parametrize.remove_parametrizations(self, 'weight')
        if not self._parent:
            return
        kernel = product(*self._derivation()).detach().clone()
        parent = self._parent[0]
        requires_grad = parent.weight.requires_grad
        if parent is not self:
            parent.num_children -= 1
        self.drop_own_weight()
        self._parent = ()
        self.parent_name = self._kept_kernel = None
        # What is built in this form has no optimizer yet.
        self._was_child = not self.options.deploy
        self.weight = nn.Parameter(kernel, requires_grad=requires_grad)
        assert self.adapter is not None
        gate = self.adapter.gate
        if gate is None:
            self.adapter = None
        else:
            gate.fold_norm()
            self.adapter.filter = self.adapter.spatial = None
        for conv in (self, parent):
            if conv.role == 'plain':
                conv.unguard_parameters()

    def forward(self, x: Tensor) -> Tensor:
        """Run the convolution.

        Args:
            x (Tensor): Shape (N, C_in, H, W).

        Returns:
            Tensor: Shape (N, C_out, H', W').
        """
        if isinstance(x, Proxy):
            return self.trace_as_leaf(x)
        if self._was_child and self.training and torch.is_grad_enabled():
            self._was_child = False
            _warn_of_training()
        adapter = self.adapter
        if adapter is None:
            self.warn_if_unlinked()
            return super().forward(x)
        if self.padding_mode != 'zeros' or isinstance(self.padding, str):
            # What is kept for backward is the padded input, as in any conv.
            return super()._conv_forward(
                adapter.modulate(x), self.kernel(), self.bias)
        gate = adapter.gate
        return modulated_conv2d(x, None if gate is None else gate(x),
                                *self._kernel_parts(), self.bias, self.stride,
                                self.padding, self.dilation, self.groups)

    def _conv_forward(self, x: Tensor, weight: Tensor,
                      bias: Tensor | None) -> Tensor:
        # efficient_conv_bn_eval comes here past forward, with a scaled kernel.
        if self.adapter is not None:
            x = self.adapter.modulate(x)
            if self.parent is self:
                weight = (
                    self.kernel()
                    if weight is self.weight else self.adapter.derive(weight))
        return super()._conv_forward(x, weight, bias)

    def train(self, mode: bool = True) -> KernelDNAConv2d:
        """Set train or eval mode, and forget a kernel that was kept.

        Args:
            mode (bool): Whether train mode. Defaults to True.

        Returns:
            KernelDNAConv2d: Itself.
        """
        self.forget_kernel()
        super().train(mode)
        return self

    def _apply(self, *args: Any, **kwargs: Any) -> KernelDNAConv2d:
        self.forget_kernel()
        return super()._apply(*args, **kwargs)

    def __getstate__(self) -> dict[str, Any]:
        return dict(self.__dict__, _kept_kernel=None)

    def extra_repr(self) -> str:
        """Say the role, behind what nn.Conv2d says."""
        role = self.role
        if role == 'child':
            role += f' of {self.parent_name}'
        elif role == 'parent':
            role += f' of {self.num_children}'
        return f'{super().extra_repr()}, {role}'


def _warn_of_training() -> bool:
    """Warn of what an optimizer may not hold."""
    warnings.warn(
        'A model is trained after switch_to_deploy, which gave its children '
        'kernels of their own: an optimizer made before does not hold them, '
        'so make the optimizer anew, or train the model as it was and deploy '
        'it afterwards')
    return True


# torch.compile calls it while it traces, and finds no break there. This is
# what torch.compiler.assume_constant_result does after a second of imports.
_warn_of_training._dynamo_marked_constant = True  # type: ignore[attr-defined]
