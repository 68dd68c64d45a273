"""What must not be done to a kernel that others share, and what says so."""
import inspect
from collections import OrderedDict

from torch import nn


class _GuardedParameters(OrderedDict):
    """Parameters of a parent or child, whose weight is not its own alone."""

    def __missing__(self, name):
        if name == 'weight':
            name = ('a child owns no weight, it derives its kernel: '
                    'mmkdna.switch_to_deploy(model) gives each child its own')
        raise KeyError(name)

    def __delitem__(self, name):
        # torch.nn.utils.weight_norm does so, and all it leaves are norms.
        if name == 'weight':
            _refuse('weight_g', 'parent or child')
        super().__delitem__(name)


def _refuse(name, role):
    raise RuntimeError(
        f'{name} is being set on a {role}, whose kernel is not its own '
        'alone: torch.nn.utils.parametrizations has what spectral_norm, '
        'weight_norm and their like do in a form that children see, and after '
        'mmkdna.switch_to_deploy(model) any form works')


class KernelGuard:
    """Refuses what would make the kernels of parents and children wrong.

    Folding a norm into a parent's kernel, or computing it anew before each
    forward, would change its children; and a child has no kernel of its own
    to fold into. Stands before ``nn.Conv2d`` in the bases of
    :class:`mmkdna.KernelDNAConv2d`, whose attributes it reads.
    """

    def guard_parameters(self):
        """Let what takes the weight past attributes say what to do instead."""
        self.__dict__['_parameters'] = _GuardedParameters(self._parameters)

    def unguard_parameters(self):
        """Let go of the parameters of what shares no more."""
        self.__dict__['_parameters'] = OrderedDict(self._parameters)

    def __getattr__(self, name):
        if (name == 'weight' and self.__dict__.get('_parent')
                and 'weight' not in self._parameters):
            raise AttributeError(
                f'a child owns no weight: this one derives its kernel from '
                f'{self.parent_name!r}; kernel() returns it, and '
                'mmkdna.switch_to_deploy(model) gives each child its own, '
                'which fusing and exporting need')
        return super().__getattr__(name)

    def __setattr__(self, name, value):
        # Folding a norm into a parent's kernel would rescale its children.
        # FSDP and load_state_dict(assign=True) set a weight as well, so what
        # tells are the function's name in mmcv and the bias it leaves behind.
        if (name in ('weight', 'bias') and isinstance(value, nn.Parameter)
                and self.__dict__.get('num_children') and
            (inspect.currentframe().f_back.f_code.co_name == '_fuse_conv_bn' or
             name == 'bias' and self._parameters.get('bias', value) is None)):
            raise RuntimeError(
                'a norm is being folded into a convolution from whose kernel '
                f'{self.num_children} others derive theirs: call '
                'mmkdna.switch_to_deploy(model) before fusing')
        super().__setattr__(name, value)

    def register_parameter(self, name, param):
        """Register a parameter.

        Raises:
            RuntimeError: If it replaces the kernel of a parent or child by
                one that is computed right before a forward, which children
                would not see.
        """
        if (name.startswith('weight_') and (self.__dict__.get('num_children')
                                            or self.__dict__.get('_parent'))):
            if name == 'weight_orig' and 'weight' not in self._parameters:
                super().register_parameter('weight', param)
            _refuse(name, self.role)
        super().register_parameter(name, param)

    def __delattr__(self, name):
        # As FSDP and torch.nn.utils.parametrize do, who put it back.
        parameters = self._parameters
        if isinstance(parameters, _GuardedParameters) and name in parameters:
            OrderedDict.__delitem__(parameters, name)
        else:
            super().__delattr__(name)

    def __str__(self):
        # torch.nn.utils.parametrizations asks for a child's weight, and says
        # with this string that there is none.
        if self._parent and self.parent is not self:
            return (f'{self!r}, which derives its kernel (kernel() returns '
                    'it, mmkdna.switch_to_deploy(model) gives it its own),')
        return repr(self)
