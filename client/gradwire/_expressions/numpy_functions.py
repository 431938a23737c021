"""NumPy's functions on expressions: ``np.maximum(0, 1 - x)`` builds nodes, as ``gw.maximum`` does."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from gradwire._errors import InvalidGraphError
from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, Operand
from gradwire._expressions.primitives import Axis, axes_of

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


def _clip(
    a: Operand,
    a_min: Operand | None = None,
    a_max: Operand | None = None,
    *,
    min: Operand | None = None,  # noqa: A002  (NumPy's names, each bound under one of two)
    max: Operand | None = None,  # noqa: A002
) -> Expression:
    return gw.clip(a, min if a_min is None else a_min, max if a_max is None else a_max)


def _take(a: Operand, indices: Operand, axis: int | None = None) -> Expression:
    if axis != 0:
        raise _unsupported("np.take without axis=0")
    return gw.take(a, indices)


_FUNCTIONS: Mapping[Any, Callable[..., Expression]] = {
    np.amax: gw.max,
    np.amin: gw.min,
    np.clip: _clip,
    np.dot: gw.dot,
    np.max: gw.max,
    np.mean: gw.mean,
    np.min: gw.min,
    np.reshape: gw.reshape,
    np.sum: gw.sum,
    np.take: _take,
    np.transpose: gw.transpose,
    np.var: gw.var,
}


def _size(a: Expression, axis: Axis = None) -> int:
    return prod(a.shape[one] for one in axes_of(a, axis))


_SHAPES: Mapping[Any, Callable[..., Any]] = {
    np.ndim: lambda a: a.ndim,
    np.shape: lambda a: a.shape,
    np.size: _size,
}
"""What asks for the shape only, and builds nothing."""


def apply_ufunc(ufunc: np.ufunc, method: str, inputs: Sequence[object], kwargs: Mapping[str, object]) -> Expression:
    """What ``Expression.__array_ufunc__`` does."""
    function = _UFUNCS.get(ufunc)
    if function is None or method != "__call__" or kwargs:
        call = f"np.{ufunc.__name__}" + ("" if method == "__call__" else f".{method}")
        raise _unsupported(call + (f" with {', '.join(kwargs)}" if kwargs else ""))
    return function(*inputs)


def apply_function(func: Callable[..., object], args: Sequence[Any], kwargs: Mapping[str, Any]) -> object:
    """What ``Expression.__array_function__`` does."""
    function = _FUNCTIONS.get(func) or _SHAPES.get(func)
    if function is None:
        raise _unsupported(f"np.{func.__name__}")
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        raise InvalidGraphError(f"np.{func.__name__} on an expression: {error}") from error


def _unsupported(call: str) -> InvalidGraphError:
    names = sorted({ufunc.__name__ for ufunc in _UFUNCS} | {function.__name__ for function in _FUNCTIONS})
    return InvalidGraphError(f"{call} cannot build a graph; of NumPy's functions these can: {', '.join(names)}")
