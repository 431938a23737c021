"""NumPy's functions on expressions: ``np.maximum(0, 1 - x)`` builds nodes, as ``gw.maximum`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log, prod
from typing import Any

import numpy as np

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.shapes import Axis, axes_of
from gradwire._expressions.tables import FUNCTIONS, NEEDING_VALUES, SHAPES, UFUNCS, needs_values, unsupported

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
        np.less: gw.less,
        np.less_equal: gw.less_equal,
        np.greater: gw.greater,
        np.greater_equal: gw.greater_equal,
        np.equal: gw.equal,
        np.not_equal: gw.not_equal,
        np.logical_and: gw.logical_and,
        np.logical_or: gw.logical_or,
        np.logical_not: gw.logical_not,
        np.bitwise_and: gw.logical_and,
        np.bitwise_or: gw.logical_or,
        np.invert: gw.logical_not,
        np.isnan: lambda x: gw.not_equal(x, x),
        np.sign: gw.sign,
        np.positive: as_expression,
        np.fabs: gw.abs,
        np.sin: gw.sin,
        np.cos: gw.cos,
        np.tan: lambda x: gw.divide(gw.sin(x), gw.cos(x)),
        np.sinh: lambda x: gw.mul(0.5, gw.subtract(gw.expm1(x), gw.expm1(gw.negative(x)))),
        np.cosh: lambda x: gw.mul(0.5, gw.add(gw.exp(x), gw.exp(gw.negative(x)))),
        np.log1p: gw.log1p,
        np.expm1: gw.expm1,
        np.log2: lambda x: gw.mul(gw.log(x), 1 / log(2)),
        np.log10: lambda x: gw.mul(gw.log(x), 1 / log(10)),
        np.exp2: lambda x: gw.exp(gw.mul(x, log(2))),
        np.hypot: lambda a, b: gw.norm(gw.stack([a, b]), axis=0),
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
    return gw.take(gw.ravel(a), indices) if axis is None else gw.take(a, indices, axis)


def _where(condition: Operand, *choices: Operand) -> Expression:
    if len(choices) != 2:
        raise needs_values("np.where of a condition alone", "give it both choices: np.where(condition, x, y)")
    return gw.where(condition, *choices)


def _pad(array: Operand, pad_width: Any, mode: str = "constant", constant_values: float = 0) -> Expression:  # noqa: ANN401  (gw.pad says which)
    if mode != "constant":
        raise unsupported(f'np.pad with mode="{mode}"')
    return gw.pad(array, pad_width, constant_values)


def _joined(least: int, axis: int) -> Callable[[Sequence[Operand]], Expression]:
    """What NumPy's ``hstack`` and ``vstack`` build: operands with this many axes at least, along one of them."""

    def joined(tup: Sequence[Operand]) -> Expression:
        nodes = list(map(as_expression, tup))
        nodes = [gw.reshape(node, (1,) * (least - node.ndim) + node.shape) for node in nodes]
        return gw.concatenate(nodes, axis if nodes and nodes[0].ndim > axis else 0)

    return joined


FUNCTIONS.update(
    {
        np.amax: gw.max,
        np.amin: gw.min,
        np.broadcast_to: gw.broadcast_to,
        np.clip: _clip,
        np.concatenate: gw.concatenate,
        np.cumsum: gw.cumsum,
        np.diagonal: gw.diagonal,
        np.diff: gw.diff,
        np.dot: gw.dot,
        np.einsum: gw.einsum,
        np.expand_dims: gw.expand_dims,
        np.flip: gw.flip,
        np.hstack: _joined(1, 1),
        np.inner: gw.inner,
        np.linalg.norm: gw.norm,
        np.linalg.trace: gw.trace,
        np.max: gw.max,
        np.mean: gw.mean,
        np.min: gw.min,
        np.moveaxis: gw.moveaxis,
        np.outer: gw.outer,
        np.pad: _pad,
        np.prod: gw.prod,
        np.ravel: gw.ravel,
        np.repeat: gw.repeat,
        np.reshape: gw.reshape,
        np.roll: gw.roll,
        np.split: gw.split,
        np.squeeze: gw.squeeze,
        np.stack: gw.stack,
        np.std: gw.std,
        np.sum: gw.sum,
        np.swapaxes: gw.swapaxes,
        np.take: _take,
        np.tensordot: gw.tensordot,
        np.tile: gw.tile,
        np.trace: gw.trace,
        np.transpose: gw.transpose,
        np.tril: gw.tril,
        np.triu: gw.triu,
        np.var: gw.var,
        np.vdot: lambda a, b: gw.dot(gw.ravel(a), gw.ravel(b)),
        np.vstack: _joined(2, 0),
        np.where: _where,
    }
)


def _size(a: Expression, axis: Axis = None) -> int:
    return prod(a.shape[one] for one in axes_of(a, axis))


SHAPES.update(
    {
        np.ndim: lambda a: a.ndim,
        np.shape: lambda a: a.shape,
        np.size: _size,
        np.zeros_like: lambda a: np.zeros(a.shape),
        np.ones_like: lambda a: np.ones(a.shape),
        np.full_like: lambda a, fill_value: np.full(a.shape, fill_value),
    }
)

_ORDER = "an order depends on values, and has no derivative; gw.max and gw.min are there, and softmax for a soft choice"
_COUNT = "how many entries there are depends on values; write masks, such as x > 0, and reduce gw.where(mask, x, 0)"
_MASK = "reduce masks with gw.min, which is 1 where all hold, and gw.max, which is 1 where any holds"
_STEP = "a step has no derivative; do it to constants, or to results after the call"

for _functions, _instead in (
    ((np.argmax, np.argmin, np.argsort, np.sort, np.median, np.quantile, np.percentile), _ORDER),
    ((np.nonzero, np.unique, np.flatnonzero, np.argwhere, np.count_nonzero), _COUNT),
    ((np.floor, np.ceil, np.rint, np.trunc, np.remainder, np.floor_divide, np.round), _STEP),
    ((np.all, np.any, np.allclose, np.isclose, np.array_equal), _MASK),
):
    NEEDING_VALUES.update(dict.fromkeys(_functions, _instead))
