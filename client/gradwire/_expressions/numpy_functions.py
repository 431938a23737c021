"""NumPy's functions on expressions: ``np.maximum(0, 1 - x)`` builds nodes, as ``gw.maximum`` does."""

from __future__ import annotations

from math import prod

import numpy as np

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, Operand
from gradwire._expressions.shapes import Axis, axes_of
from gradwire._expressions.tables import FUNCTIONS, SHAPES, UFUNCS, unsupported

UFUNCS.update(
    {
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
)


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
        raise unsupported("np.take without axis=0")
    return gw.take(a, indices)


FUNCTIONS.update(
    {
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
)


def _size(a: Expression, axis: Axis = None) -> int:
    return prod(a.shape[one] for one in axes_of(a, axis))


SHAPES.update(
    {
        np.ndim: lambda a: a.ndim,
        np.shape: lambda a: a.shape,
        np.size: _size,
    }
)
