"""NumPy's functions on expressions: ``np.maximum(0, 1 - x)`` builds nodes, as ``gw.maximum`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from gradwire import _functions as gw
from gradwire._errors import InvalidGraphError
from gradwire._expression import Expression

_UFUNCS: Mapping[np.ufunc, Callable[..., Expression]] = {
    np.absolute: gw.abs,
    np.add: gw.add,
    np.divide: gw.divide,
    np.exp: gw.exp,
    np.log: gw.log,
    np.logaddexp: gw.logaddexp,
    np.matmul: gw.matmul,
    np.maximum: gw.maximum,
    np.minimum: gw.minimum,
    np.multiply: gw.mul,
    np.negative: gw.negative,
    np.power: gw.power,
    np.float_power: gw.power,
    np.reciprocal: lambda x: gw.power(x, -1),
    np.sqrt: gw.sqrt,
    np.square: gw.square,
    np.subtract: gw.subtract,
    np.tanh: gw.tanh,
}

_FUNCTIONS: Mapping[Any, Callable[..., Expression]] = {
    np.amax: gw.max,
    np.amin: gw.min,
    np.clip: gw.clip,
    np.dot: gw.dot,
    np.max: gw.max,
    np.mean: gw.mean,
    np.min: gw.min,
    np.reshape: gw.reshape,
    np.sum: gw.sum,
    np.transpose: gw.transpose,
    np.var: gw.var,
}


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[object], kwargs: Mapping[str, object]) -> Expression:
    """What ``Expression.__array_ufunc__`` does."""
    function = _UFUNCS.get(ufunc)
    if function is None or method != "__call__" or kwargs:
        call = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
        raise _unsupported(call + (f" with {', '.join(kwargs)}" if kwargs else ""))
    return function(*inputs)


def apply_function(func: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Expression:
    """What ``Expression.__array_function__`` does."""
    if func is np.take and kwargs.get("axis", args[2] if len(args) > 2 else None) == 0:
        return gw.take(*args[:2])
    function = _FUNCTIONS.get(func)
    if function is None:
        raise _unsupported(f"np.{func.__name__}")
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        raise InvalidGraphError(f"np.{func.__name__} on an expression: {error}") from error


def _unsupported(call: str) -> InvalidGraphError:
    names = sorted({ufunc.__name__ for ufunc in _UFUNCS} | {function.__name__ for function in _FUNCTIONS} | {"take"})
    return InvalidGraphError(f"{call} cannot build a graph; of NumPy's functions these can: {', '.join(names)}")
