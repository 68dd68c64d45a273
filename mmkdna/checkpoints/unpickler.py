"""An unpickler that builds tensors and plain values, and runs nothing.

torch's own for weights alone is not taken: what it lets through depends on
what anyone in the process has allowed it (mmengine allows ``getattr``), it
refuses what mmengine's Runner saves, and torch 2.1's trusts what a file says
of the size of its tensors.
"""
from __future__ import annotations
import pickle
from collections import OrderedDict
from typing import IO, Any, Callable

import torch
from torch import Tensor, nn

from .errors import Unreadable
from .state import CONSTRUCTORS, StandIn

_DTYPES = dict(
    DoubleStorage=torch.float64,
    FloatStorage=torch.float32,
    HalfStorage=torch.float16,
    BFloat16Storage=torch.bfloat16,
    LongStorage=torch.int64,
    IntStorage=torch.int32,
    ShortStorage=torch.int16,
    CharStorage=torch.int8,
    ByteStorage=torch.uint8,
    BoolStorage=torch.bool,
    ComplexDoubleStorage=torch.complex128,
    ComplexFloatStorage=torch.complex64,
    UntypedStorage=torch.uint8)
# What takes no time to hash, whoever made it. Messages show no other value:
# that of a text may take as long.
_KEYS = (str, int, float, bool, bytes, type(None))
# What torch.save writes in any protocol; nothing that calls or imports.
_HARMLESS = ('PROTO', 'FRAME', 'STOP', 'MARK', 'POP', 'POP_MARK', 'NONE',
             'NEWTRUE', 'NEWFALSE', 'BININT', 'BININT1', 'BININT2', 'LONG1',
             'LONG4', 'BINFLOAT', 'BINUNICODE', 'SHORT_BINUNICODE',
             'BINUNICODE8', 'BINSTRING', 'SHORT_BINSTRING', 'BINBYTES',
             'SHORT_BINBYTES', 'BINBYTES8', 'EMPTY_DICT', 'EMPTY_LIST',
             'EMPTY_SET', 'EMPTY_TUPLE', 'TUPLE', 'TUPLE1', 'TUPLE2', 'TUPLE3',
             'BINGET', 'LONG_BINGET', 'BINPUT', 'LONG_BINPUT', 'MEMOIZE',
             'GLOBAL', 'STACK_GLOBAL', 'BINPERSID')


class _Codes(dict):
    """What is done at each code of a pickle."""

    def __missing__(self, code: int) -> None:
        raise ValueError(f'no checkpoint has {bytes([code])!r} in its pickle')


class Unpickler(pickle._Unpickler):
    """Reads one pickle of a checkpoint.

    Args:
        file (IO): The file, where the pickle starts.
        storage (Callable, optional): Is given what the pickle says of a
            storage behind the type of its elements, and returns its memory,
            a tensor of uint8. Defaults to None: there are no tensors.
    """

    # Of the base class, whose types are not known.
    stack: list[Any]
    append: Callable[[Any], None]
    pop_mark: Callable[[], list[Any]]

    dispatch = _Codes(
        (code, pickle._Unpickler.dispatch[code])
        for code in (getattr(pickle, name)[0] for name in _HARMLESS))

    def __init__(self,
                 file: IO[bytes],
                 storage: Callable[..., Tensor] | None = None) -> None:
        # Strings of Python 2 are texts.
        super().__init__(file, encoding='utf-8')
        self._storage = storage

    def find_class(self, module: str, name: str) -> Any:
        """Find what stands for a name, or refuse it."""
        full = f'{module}.{name}'
        if full in _KNOWN:
            return _KNOWN[full]
        if module in ('torch', 'torch.storage') and name in _DTYPES:
            return _DTYPES[name]
        if module == 'torch' and isinstance(
                getattr(torch, name, None), torch.dtype):
            return getattr(torch, name)
        raise Unreadable(
            f'is not read: it asks for {full}, which could run any code, and '
            'none of it has been run. Tensors and plain values are expected: '
            'if you trust where it comes from, save its state_dict alone with '
            'torch.save')

    def persistent_load(self, pid: Any) -> tuple[Tensor, torch.dtype]:
        """Find the memory of a tensor."""
        kind, dtype, key, location, *where = pid
        if kind != 'storage' or self._storage is None:
            raise ValueError('it has more than tensors beside its pickle')
        return self._storage(dtype, exactly(str, key), exactly(str, location),
                             *where), dtype

    def load_reduce(self) -> None:
        """Call a function: one of those known here."""
        args = self.stack.pop()
        self.stack[-1] = self.stack[-1](*args)

    def load_newobj(self) -> None:
        """Make an object of a class: a stand-in."""
        args = self.stack.pop()
        made = self.stack.pop()
        if not (isinstance(made, type) and issubclass(made, StandIn)):
            raise ValueError('an object is no state of a training')
        self.append(made(*args))

    def load_build(self) -> None:
        """Give an object its state."""
        state = self.stack.pop()
        made = self.stack[-1]
        if isinstance(made, StandIn):
            made.state = state
        elif isinstance(made, OrderedDict) and isinstance(state, dict):
            # The versions of modules, for those that adapt old weights.
            versions = state.get('_metadata')
            if isinstance(versions, dict) and all(
                    isinstance(value, dict) for value in versions.values()):
                made._metadata = versions  # type: ignore[attr-defined]
        else:
            raise ValueError(f'a {type(made).__name__} takes no state')

    def load_append(self) -> None:
        """Append to a list."""
        value = self.stack.pop()
        exactly(list, self.stack[-1]).append(value)

    def load_appends(self) -> None:
        """Append several to a list."""
        items = self.pop_mark()
        exactly(list, self.stack[-1]).extend(items)

    def load_additems(self) -> None:
        """Add to a set."""
        items = self.pop_mark()
        exactly(set, self.stack[-1]).update(map(_key, items))

    def load_setitem(self) -> None:
        """Set an item of a dict."""
        value, key = self.stack.pop(), self.stack.pop()
        exactly(dict, self.stack[-1])[_key(key)] = value

    def load_setitems(self) -> None:
        """Set several items of a dict."""
        items = self.pop_mark()
        made = exactly(dict, self.stack[-1])
        for key, value in zip(items[::2], items[1::2]):
            made[_key(key)] = value

    dispatch.update({
        pickle.REDUCE[0]: load_reduce,
        pickle.NEWOBJ[0]: load_newobj,
        pickle.BUILD[0]: load_build,
        pickle.APPEND[0]: load_append,
        pickle.APPENDS[0]: load_appends,
        pickle.ADDITEMS[0]: load_additems,
        pickle.SETITEM[0]: load_setitem,
        pickle.SETITEMS[0]: load_setitems,
    })


def exactly(kind: type, value: Any) -> Any:
    """The value, if it is of a kind."""
    if not isinstance(value, kind):
        raise ValueError(f'a {type(value).__name__} is no {kind.__name__}')
    return value


def _key(value: Any) -> Any:
    """A key, if it is plain: the hash of nested tuples takes for ever."""
    for item in value if type(value) is tuple else (value, ):
        # Of longer numbers any lot has the same hash.
        if type(item) not in _KEYS or (type(item) is int
                                       and item.bit_length() > 64):
            break
    else:
        return value
    raise ValueError(f'a {type(value).__name__} is no key')


def _ordered(items: Any = ()) -> OrderedDict:
    """An OrderedDict; that of Python 2 brings its items along."""
    return OrderedDict((_key(key), value) for key, value in items)


def _counts(items: Any) -> dict[Any, Any]:
    """The milestones of a MultiStepLR, in which it only looks steps up."""
    return exactly(dict, items)


def _set(items: Any = ()) -> set[Any]:
    return set(map(_key, items))


def _rebuild(memory: tuple[Tensor, torch.dtype], offset: Any, size: Any,
             stride: Any, dtype: torch.dtype) -> Tensor:
    """A tensor of a part of a memory, if it is within."""
    raw, _ = memory
    size, stride = tuple(size), tuple(stride)
    if len(size) != len(stride) or not all(
            type(number) is int and number >= 0
            for number in (offset, *size, *stride)):
        raise ValueError('the size of a tensor is none')
    last = offset + sum((n - 1) * step for n, step in zip(size, stride))
    if 0 not in size and (last + 1) * dtype.itemsize > raw.numel():
        raise ValueError('a tensor is larger than its memory')
    return torch.empty(
        0, dtype=dtype, device=raw.device).set_(raw.untyped_storage(), offset,
                                                size, stride)


def _tensor(memory: Any,
            offset: Any,
            size: Any,
            stride: Any,
            requires_grad: Any = False,
            hooks: Any = None,
            metadata: Any = None) -> Tensor:
    if metadata:
        raise ValueError('a conjugated tensor')
    made = _rebuild(memory, offset, size, stride, memory[1])
    return made.requires_grad_(bool(requires_grad))


def _tensor_v3(memory: Any,
               offset: Any,
               size: Any,
               stride: Any,
               requires_grad: Any,
               hooks: Any,
               dtype: Any,
               metadata: Any = None) -> Tensor:
    return _tensor((memory[0], exactly(torch.dtype, dtype)), offset, size,
                   stride, requires_grad, hooks, metadata)


def _parameter(data: Any, requires_grad: Any, *others: Any) -> nn.Parameter:
    return nn.Parameter(exactly(Tensor, data), bool(requires_grad))


def _without_attributes(rebuild: Any, kind: Any, args: Any,
                        attributes: Any) -> Any:
    """A tensor with attributes, as FSDP leaves them, without them."""
    return rebuild(*args)


def _device(kind: str, *index: int) -> torch.device:
    return torch.device(kind, *index)


class _Kind(StandIn):
    """The class of a tensor; never an object of it."""


# By the names that Python 2 and 3 and the pickle protocols give to them. Each
# is a function or class of ours, so that nothing that others use is at hand.
_KNOWN: dict[str, Any] = {
    **CONSTRUCTORS,
    'collections.OrderedDict': _ordered,
    'collections.Counter': _counts,
    '__builtin__.set': _set,
    'builtins.set': _set,
    'torch.Size': lambda size=(): torch.Size(size),
    'torch.device': _device,
    'torch.Tensor': _Kind,
    'torch.nn.parameter.Parameter': _Kind,
    'torch._utils._rebuild_tensor': _tensor,
    'torch._utils._rebuild_tensor_v2': _tensor,
    'torch._utils._rebuild_tensor_v3': _tensor_v3,
    'torch._utils._rebuild_parameter': _parameter,
    'torch._utils._rebuild_parameter_with_state': _parameter,
    'torch._tensor._rebuild_from_type_v2': _without_attributes,
}
