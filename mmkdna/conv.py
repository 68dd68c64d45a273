"""The conv type ``KernelDNA``."""
import warnings

import torch
from torch import nn
from torch.fx import Proxy
from torch.nn.utils import parametrize
from torch.optim.optimizer import register_optimizer_step_post_hook

from .adapter import Adapter
from .guard import KernelGuard
from .options import SharingOptions

# Of all optimizers. A fused one writes to a weight without a trace on it.
_optimizer_steps = [0]


def _count_step(*_):
    _optimizer_steps[0] += 1


register_optimizer_step_post_hook(_count_step)


class KernelDNAConv2d(KernelGuard, nn.Conv2d):
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
    what a plain one does; in eval mode without gradients it is derived once
    and kept until something changes. With ``share=False`` a child is its own
    parent and owns its kernel. Source: arXiv 2503.23379.

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

    # Set by every new convolution, cleared by the warning: a model built by
    # hand and not linked warns once, not once per layer and step.
    _warn_unlinked = False

    def __init__(self,
                 in_channels,
                 out_channels,
                 kernel_size,
                 stride=1,
                 padding=0,
                 dilation=1,
                 groups=1,
                 bias=True,
                 padding_mode='zeros',
                 device=None,
                 dtype=None,
                 **options):
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
        self.options = SharingOptions.parse(options)
        self.adapter = None
        self.linked = False
        self.num_children = 0
        self.parent_name = None
        # In a tuple, the parent is no submodule: it appears once in the state
        # dict, and deepcopy and pickle still follow it.
        self._parent = ()
        self._kept_kernel = None
        KernelDNAConv2d._warn_unlinked = True

    @property
    def parent(self):
        """KernelDNAConv2d | None: The parent of a child."""
        return self._parent[0] if self._parent else None

    @property
    def role(self):
        """str: 'plain', 'parent' or 'child'."""
        if self._parent:
            return 'child'
        return 'parent' if self.num_children else 'plain'

    @property
    def weight_shape(self):
        """tuple[int]: Shape of the kernel, owned or derived."""
        return (self.out_channels, self.in_channels // self.groups,
                *self.kernel_size)

    def kernel(self):
        """The kernel this convolution computes with.

        In eval mode without gradients a child keeps it until an optimizer
        makes a step, or what it comes from is moved, replaced or written to.
        A write through ``.data`` leaves no trace: call ``eval()`` after one,
        as mmengine's loops do after an ``EMAHook`` has swapped weights for
        validation.

        Returns:
            Tensor: Shape (C_out, C_in / groups, kH, kW). A child's is derived
            from its parent's.
        """
        if not self._parent:
            return self.weight
        if self.training or torch.is_grad_enabled():
            # An optimizer's step follows, which FSDP lets leave no trace.
            self._kept_kernel = None
            return self._derive()
        sources = self._sources()
        try:
            state = [_optimizer_steps[0]]
            state += [(t.data_ptr(), t._version) for t in sources]
        except RuntimeError:
            # Tensors made in inference mode or by torch.export have neither.
            return self._derive()
        kept = self._kept_kernel
        # The sources themselves are kept as well: addresses are used again.
        if (kept is None or kept[1] != state
                or any(old is not new for old, new in zip(kept[0], sources))):
            self._kept_kernel = kept = (sources, state, self._derive())
        return kept[2]

    def _sources(self):
        adapter = self.adapter
        sources = (self._parent[0].weight, adapter.filter, adapter.spatial,
                   self._buffers.get('own_weight'),
                   self._buffers.get('own_share'))
        return [tensor for tensor in sources if tensor is not None]

    def _derive(self):
        weight = self._parent[0].weight
        if weight.dim() < 4:
            raise RuntimeError(
                f'the kernel of {self.parent_name!r}, from which a child '
                f'derives its own, has the shape {tuple(weight.shape)} here, '
                f'{self.weight_shape} is expected: FSDP has the two in '
                'different units; auto_wrap_policy=\'kernel_dna_wrap_policy\' '
                'keeps parents and children together')
        kernel = self.adapter.derive(weight)
        if 'own_weight' in self._buffers:
            kernel = kernel.lerp(
                self.own_weight.to(kernel), self.own_share.to(kernel))
        return kernel

    def derive_from(self, parent, parent_name):
        """Become a child: get an adapter, and drop an own kernel.

        Args:
            parent (KernelDNAConv2d): A plain convolution or a parent; with
                ``share=False`` this convolution itself.
            parent_name (str): Its name in the backbone, neck or head.

        Raises:
            ValueError: If the two do not fit, or ``rd_ratio`` leaves the gate
                no channel.
        """
        if (self.role != 'plain' or parent.role == 'child'
                or (parent is self) == self.options.share
                or parent.weight_shape != self.weight_shape
                or parent.groups != self.groups):
            raise ValueError(
                f'KernelDNA: {self} cannot derive its kernel from '
                f'{parent_name}, {parent}: a plain convolution and a plain or '
                'parent convolution of the same kernel shape are expected')
        adapter = Adapter(self.weight_shape, self.in_channels, self.options)
        # A frozen stage stays frozen, a stage in eval mode stays in it.
        adapter.to(self.weight).requires_grad_(self.weight.requires_grad)
        self.adapter = adapter.train(self.training)
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

    def drop_own_weight(self):
        """Keep the derived kernel only (``keep_own_kernel`` is over)."""
        for name in ('own_weight', 'own_share'):
            self._buffers.pop(name, None)

    @torch.no_grad()
    def switch_to_deploy(self):
        """Become independent: a child folds its kernel and its gate's norm."""
        if parametrize.is_parametrized(self, 'weight'):
            parametrize.remove_parametrizations(self, 'weight')
        if not self._parent:
            return
        kernel = self._derive().detach().clone()
        parent = self._parent[0]
        requires_grad = parent.weight.requires_grad
        if parent is not self:
            parent.num_children -= 1
        self.drop_own_weight()
        self._parent = ()
        self.parent_name = self._kept_kernel = None
        self.weight = nn.Parameter(kernel, requires_grad=requires_grad)
        gate = self.adapter.gate
        if gate is None:
            self.adapter = None
        else:
            gate.fold_norm()
            self.adapter.filter = self.adapter.spatial = None
        for conv in (self, parent):
            if conv.role == 'plain':
                conv.unguard_parameters()

    def forward(self, x):
        """
        Args:
            x (Tensor): Shape (N, C_in, H, W).

        Returns:
            Tensor: Shape (N, C_out, H', W').
        """
        if isinstance(x, Proxy):
            # torch.fx, which mmengine's efficient_conv_bn_eval uses, is to see
            # one convolution, as it sees an nn.Conv2d.
            return x.tracer.create_proxy('call_module',
                                         x.tracer.path_of_module(self), (x, ),
                                         {})
        if (self.adapter is None and not self.linked
                and KernelDNAConv2d._warn_unlinked):
            KernelDNAConv2d._warn_unlinked = False
            warnings.warn(
                'KernelDNA convolutions run as plain ones, since nothing '
                'linked them: call mmkdna.link_kernels(model) on a model '
                'built by hand, and import mmkdna (custom_imports) before '
                'building one from a config')
        if self._parent and self.parent is not self:
            return self._conv_forward(x, self.kernel(), self.bias)
        return super().forward(x)

    def _conv_forward(self, x, weight, bias):
        # efficient_conv_bn_eval comes here past forward, with a scaled kernel.
        if self.adapter is not None:
            x = self.adapter.modulate(x)
            if self.parent is self:
                weight = (
                    self.kernel()
                    if weight is self.weight else self.adapter.derive(weight))
        return super()._conv_forward(x, weight, bias)

    def train(self, mode=True):
        """Set train or eval mode, and forget a derived kernel that was kept.

        Args:
            mode (bool): Whether train mode. Defaults to True.

        Returns:
            KernelDNAConv2d: Itself.
        """
        self._kept_kernel = None
        return super().train(mode)

    def _apply(self, *args, **kwargs):
        self._kept_kernel = None
        return super()._apply(*args, **kwargs)

    def __getstate__(self):
        return dict(self.__dict__, _kept_kernel=None)

    def extra_repr(self):
        role = self.role
        if role == 'child':
            role += f' of {self.parent_name}'
        elif role == 'parent':
            role += f' of {self.num_children}'
        return f'{super().extra_repr()}, {role}'
