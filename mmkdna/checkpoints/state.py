"""What a training leaves in a checkpoint beside tensors and plain values.

That is mmengine's ``HistoryBuffer``, NumPy's arrays and scalars, bytes and two
functions of a scheduler. An unpickler makes a stand-in of each, which nothing
can be done with; from the stand-ins, the objects are built afterwards, by
constructors that take numbers and strings only.
"""
from __future__ import annotations
from typing import Any

import numpy as np
from mmengine.logging import HistoryBuffer
from mmengine.optim.scheduler.param_scheduler import OneCycleParamScheduler

# Bytes in memory are all there is to these kinds of a NumPy type.
_PLAIN_KINDS = 'biufcSU'
_ANNEALING = ('_annealing_cos', '_annealing_linear')


class StandIn:
    """An object that is not built yet.

    It takes any arguments and any state, and keeps them.
    """

    args: tuple[Any, ...]
    state: Any

    def __new__(cls, *args: Any, **kwargs: Any) -> StandIn:
        made = super().__new__(cls)
        made.args = args
        made.state = None
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def build(self) -> Any:
        """Build the object.

        Raises:
            ValueError: If it is none of a training's state.
        """
        raise ValueError(f'{type(self).__name__} is no state of a training')


class History(StandIn):
    """A ``HistoryBuffer``."""

    def build(self) -> HistoryBuffer:
        buffer = HistoryBuffer(max_length=int(self.state['max_length']))
        for name in ('_log_history', '_count_history'):
            setattr(buffer, name, self.state[name].build())
        return buffer


class Bytes(StandIn):
    """Bytes, which pickle's second protocol keeps as a text."""

    def build(self) -> bytes:
        if not self.args:
            return b''
        text, encoding = self.args
        if encoding != 'latin1':
            raise ValueError(f'the encoding {encoding} is not pickle\'s')
        return text.encode('latin1')


class DType(StandIn):
    """A type of NumPy."""

    def build(self) -> np.dtype:
        dtype = np.dtype(str(self.args[0]))
        if dtype.kind not in _PLAIN_KINDS:
            raise ValueError(f'an array of {dtype} is no state of a training')
        # Its state says in which order the bytes of a number are.
        return dtype.newbyteorder(self.state[1]) if self.state else dtype


class Array(StandIn):
    """An array of NumPy."""

    def build(self) -> np.ndarray:
        _, shape, dtype, in_columns, data = self.state
        array = np.frombuffer(_bytes(data), dtype.build())
        if in_columns:
            return array.reshape(shape, order='F').copy(order='F')
        return array.reshape(shape).copy()


class Scalar(StandIn):
    """A scalar of NumPy."""

    def build(self) -> np.generic:
        dtype, data = self.args
        return np.frombuffer(_bytes(data), dtype.build())[0]


class Attribute(StandIn):
    """An attribute of a class, such as a method."""

    def build(self) -> Any:
        owner, name = self.args
        if owner is not OneCycle or name not in _ANNEALING:
            raise ValueError(f'{name} is no state of a training')
        return getattr(OneCycleParamScheduler, name)


class OneCycle(StandIn):
    """The class whose methods a scheduler keeps; never an object of it."""


class NDArray(StandIn):
    """The class that arrays are made of; never an object of it."""


def _bytes(data: Any) -> bytes:
    if isinstance(data, Bytes):
        data = data.build()
    if not isinstance(data, bytes):
        raise ValueError(f'a {type(data).__name__} is no memory of an array')
    return data


# By the names that NumPy 1 and 2 and the pickle protocols give to them.
CONSTRUCTORS = {
    'mmengine.logging.history_buffer.HistoryBuffer': History,
    'mmengine.optim.scheduler.param_scheduler.OneCycleParamScheduler':
    OneCycle,
    '__builtin__.getattr': Attribute,
    'builtins.getattr': Attribute,
    '_codecs.encode': Bytes,
    # Without arguments: there are none in it.
    '__builtin__.bytes': Bytes,
    'builtins.bytes': Bytes,
    'numpy.dtype': DType,
    'numpy.ndarray': NDArray,
    'numpy.core.multiarray._reconstruct': Array,
    'numpy._core.multiarray._reconstruct': Array,
    'numpy.core.multiarray.scalar': Scalar,
    'numpy._core.multiarray.scalar': Scalar,
}


def build_state(value: Any) -> Any:
    """Build what stand-ins stand for.

    Args:
        value (Any): Any value; dicts and lists are changed in place.

    Returns:
        Any: The value, or what it stands for.

    Raises:
        ValueError: If a stand-in is for none of a training's state.
    """
    if isinstance(value, StandIn):
        return value.build()
    if isinstance(value, dict):
        for key, item in value.items():
            value[key] = build_state(item)
    elif isinstance(value, list):
        value[:] = map(build_state, value)
    elif type(value) in (tuple, set):
        return type(value)(map(build_state, value))
    elif callable(value):
        raise ValueError('a function is no state of a training')
    return value
