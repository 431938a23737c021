"""NumPy's functions on expressions: ``np.maximum(0, 1 - x)`` builds nodes, as ``gw.maximum`` does."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import reduce
from math import inf, log, pi, prod
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradwire._errors import InvalidGraphError
from gradwire._expressions import arcs, comparing
from gradwire._expressions import functions as gw
from gradwire._expressions import numpy_composed as own
from gradwire._expressions import numpy_placing as placing
from gradwire._expressions import numpy_statistics as statistics
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.primitives import as_numbers
from gradwire._expressions.shapes import Axis, axes_of
from gradwire._expressions.tables import (
    ACCUMULATIONS,
    FUNCTIONS,
    METHODS,
    REDUCTIONS,
    SHAPES,
    UFUNCS,
    needs_values,
)

UFUNCS.update(
    {
        np.absolute: gw.abs,
        np.add: comparing.plus,
        np.divide: gw.divide,
        np.exp: gw.exp,
        np.log: gw.log,
        np.logaddexp: gw.logaddexp,
        np.matmul: comparing.matmul,
        np.maximum: gw.maximum,
        np.minimum: gw.minimum,
        np.multiply: gw.mul,
        np.negative: comparing.opposite,
        np.power: gw.power,
        np.float_power: gw.power,
        np.reciprocal: lambda x: gw.power(x, -1),
        np.sqrt: gw.sqrt,
        np.square: gw.square,
        np.subtract: comparing.minus,
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
        np.bitwise_and: comparing.bitwise(gw.logical_and),
        np.bitwise_or: comparing.bitwise(gw.logical_or),
        np.bitwise_xor: comparing.bitwise(gw.logical_xor),
        np.logical_xor: gw.logical_xor,
        np.invert: gw.logical_not,
        np.isnan: lambda x: gw.not_equal(x, x),
        np.isfinite: own.is_finite,
        np.isinf: lambda x: gw.equal(gw.abs(x), inf),
        np.sign: gw.sign,
        np.positive: as_expression,
        np.fabs: lambda x: gw.abs(as_numbers(as_expression(x))),
        np.sin: gw.sin,
        np.cos: gw.cos,
        np.tan: lambda x: gw.divide(gw.sin(x), gw.cos(x)),
        np.sinh: arcs.sinh,
        np.cosh: arcs.cosh,
        np.log1p: gw.log1p,
        np.expm1: gw.expm1,
        np.log2: lambda x: gw.mul(gw.log(x), 1 / log(2)),
        np.log10: lambda x: gw.mul(gw.log(x), 1 / log(10)),
        np.exp2: lambda x: gw.exp(gw.mul(x, log(2))),
        np.arccos: arcs.arccos,
        np.arccosh: arcs.arccosh,
        np.arcsin: arcs.arcsin,
        np.arcsinh: arcs.arcsinh,
        np.arctan: arcs.arctan,
        np.arctan2: arcs.arctan2,
        np.arctanh: arcs.arctanh,
        np.cbrt: arcs.cbrt,
        np.conjugate: lambda x: as_numbers(as_expression(x)),
        np.copysign: own.copysign,
        np.deg2rad: lambda x: gw.mul(x, pi / 180),
        np.radians: lambda x: gw.mul(x, pi / 180),
        np.degrees: lambda x: gw.mul(x, 180 / pi),
        np.rad2deg: lambda x: gw.mul(x, 180 / pi),
        np.fmax: lambda a, b: gw.where(np.isnan(a), b, gw.where(np.isnan(b), a, gw.maximum(a, b))),
        np.fmin: lambda a, b: gw.where(np.isnan(a), b, gw.where(np.isnan(b), a, gw.minimum(a, b))),
        np.heaviside: own.heaviside,
        np.logaddexp2: lambda a, b: gw.mul(gw.logaddexp(gw.mul(a, log(2)), gw.mul(b, log(2))), 1 / log(2)),
        np.vecdot: comparing.product(own.vecdot),
        np.hypot: arcs.hypot,
    }
)


_LATER: dict[str, Callable[..., Any]] = {
    "matvec": comparing.product(lambda a, b: gw.sum(gw.mul(a, gw.expand_dims(b, -2)), -1)),
    "vecmat": comparing.product(lambda a, b: gw.sum(gw.mul(gw.expand_dims(a, -1), b), -2)),
    "astype": lambda x, dtype, **_: as_expression(x).astype(dtype),
    "cumulative_prod": own.with_start(own.cumprod, 1.0),
    "cumulative_sum": own.with_start(gw.cumsum, 0.0),
    "unstack": lambda x, *, axis=0: [gw.squeeze(one, axis) for one in gw.split(x, np.shape(x)[axis], axis)],
}
"""Functions that NumPy 2.0 has not yet."""

for _name, _built in _LATER.items():
    _function = getattr(np, _name, None)
    if isinstance(_function, np.ufunc):
        UFUNCS[_function] = _built
    elif _function is not None:
        FUNCTIONS[_function] = _built

REDUCTIONS.update(
    {
        np.add: gw.sum,
        np.multiply: gw.prod,
        np.maximum: gw.max,
        np.minimum: gw.min,
        np.logaddexp: gw.logsumexp,
        np.logical_and: comparing.all_over,
        np.logical_or: comparing.any_over,
        np.bitwise_and: comparing.all_over,
        np.bitwise_or: comparing.any_over,
    }
)

ACCUMULATIONS.update({np.add: gw.cumsum, np.multiply: own.cumprod})

METHODS.update(
    cumprod=own.cumprod,
    reshape_in=own.reshape,
    any=comparing.any_over,
    all=comparing.all_over,
    plus=comparing.plus,
    minus=comparing.minus,
    opposite=comparing.opposite,
    times=comparing.matmul,
    dot=comparing.product(gw.dot),
    both=UFUNCS[np.bitwise_and],
    either=UFUNCS[np.bitwise_or],
    one_of_both=UFUNCS[np.bitwise_xor],
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


def _where(condition: Operand, *choices: Operand) -> Expression:
    if len(choices) != 2:
        raise needs_values("np.where of a condition alone", "give it both choices: np.where(condition, x, y)")
    return gw.where(condition, *choices)


def _pad(
    array: Operand,
    pad_width: Any,  # noqa: ANN401  (gw.pad says which)
    mode: str = "constant",
    *,
    constant_values: ArrayLike = 0,
    reflect_type: str = "even",
) -> Expression:
    if reflect_type != "even":
        raise InvalidGraphError(f"np.pad with reflect_type={reflect_type!r:.64}; there is 'even'")
    return gw.pad(array, pad_width, constant_values, mode=mode)


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
        np.diff: statistics.diff,
        np.dot: comparing.product(gw.dot),
        np.einsum: comparing.product(gw.einsum, slice(1, None)),
        np.expand_dims: gw.expand_dims,
        np.flip: gw.flip,
        np.hstack: _joined(1, 1),
        np.inner: comparing.product(gw.inner),
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
        np.reshape: own.reshape,
        np.roll: gw.roll,
        np.split: gw.split,
        np.squeeze: gw.squeeze,
        np.stack: gw.stack,
        np.std: own.corrected(gw.std),
        np.sum: gw.sum,
        np.swapaxes: gw.swapaxes,
        np.take: placing.take,
        np.tensordot: comparing.product(gw.tensordot),
        np.tile: gw.tile,
        np.trace: gw.trace,
        np.apply_along_axis: placing.apply_along_axis,
        np.bincount: statistics.bincount,
        np.block: placing.block,
        np.compress: placing.compress,
        np.corrcoef: statistics.corrcoef,
        np.correlate: statistics.correlate,
        np.cov: statistics.cov,
        np.diagflat: placing.diagflat,
        np.ediff1d: statistics.ediff1d,
        np.gradient: statistics.gradient,
        np.insert: placing.insert,
        np.lib.stride_tricks.sliding_window_view: placing.sliding_windows,
        np.linspace: statistics.linspace,
        np.nancumsum: lambda a, axis=None: gw.cumsum(gw.where(gw.equal(a, a), a, 0), axis),
        np.resize: placing.resize,
        np.sinc: statistics.sinc,
        np.vander: placing.vander,
        np.all: comparing.all_over,
        np.any: comparing.any_over,
        np.append: own.append,
        np.array_split: own.array_split,
        np.atleast_1d: own.at_least(1),
        np.atleast_2d: own.at_least(2),
        np.atleast_3d: own.at_least(3),
        np.average: own.average,
        np.broadcast_arrays: own.broadcast_arrays,
        np.column_stack: own.column_stack,
        np.convolve: comparing.product(own.convolve),
        np.count_nonzero: lambda a, axis=None, *, keepdims=False: gw.sum(gw.not_equal(a, 0), axis, keepdims=keepdims),
        np.copy: as_expression,
        np.cross: own.cross,
        np.cumprod: own.cumprod,
        np.delete: own.delete,
        np.diag: own.diag,
        np.dsplit: lambda ary, sections: gw.split(ary, sections, 2),
        np.dstack: lambda tup: gw.concatenate([own.at_least(3)(one) for one in tup], 2),
        np.fliplr: lambda m: gw.flip(m, 1),
        np.flipud: lambda m: gw.flip(m, 0),
        np.hsplit: lambda ary, sections: gw.split(ary, sections, min(1, np.ndim(ary) - 1)),
        np.interp: own.interp,
        np.kron: own.kron,
        np.linalg.cross: own.cross,
        np.linalg.diagonal: lambda x, *, offset=0: gw.diagonal(x, offset, -2, -1),
        np.linalg.matmul: comparing.matmul,
        np.linalg.matrix_norm: own.matrix_norm,
        np.linalg.matrix_power: own.matrix_power,
        np.linalg.matrix_transpose: lambda x: gw.swapaxes(x, -1, -2),
        np.linalg.multi_dot: lambda arrays: reduce(comparing.matmul, arrays),
        np.linalg.outer: gw.outer,
        np.linalg.tensordot: comparing.product(gw.tensordot),
        np.linalg.vecdot: comparing.product(lambda a, b, *, axis=-1: own.vecdot(a, b, axis)),
        np.linalg.vector_norm: own.vector_norm,
        np.matrix_transpose: lambda x: gw.swapaxes(x, -1, -2),
        np.meshgrid: own.meshgrid,
        np.nan_to_num: own.nan_to_num,
        np.nanmean: own.without_nan(gw.mean),
        np.nanprod: own.without_nan(gw.prod),
        np.nanstd: own.without_nan(gw.std),
        np.nansum: own.without_nan(gw.sum),
        np.nanvar: own.without_nan(gw.var),
        np.polyval: own.polyval,
        np.ptp: own.ptp,
        np.real: as_expression,
        np.real_if_close: as_expression,
        np.rollaxis: lambda a, axis, start=0: gw.moveaxis(a, axis, start - (start > axis)),
        np.rot90: own.rot90,
        np.select: own.select,
        np.take_along_axis: own.take_along_axis,
        np.trapezoid: own.trapezoid,
        np.vsplit: lambda ary, sections: gw.split(ary, sections, 0),
        np.transpose: gw.transpose,
        np.tril: gw.tril,
        np.triu: gw.triu,
        np.var: own.corrected(gw.var),
        np.vdot: comparing.product(lambda a, b: gw.dot(gw.ravel(a), gw.ravel(b))),
        np.vstack: _joined(2, 0),
        np.where: _where,
    }
)


def _size(a: Expression, axis: Axis = None) -> int:
    return prod(a.shape[one] for one in axes_of(a, axis))


def _full(a: Expression, number: Any, shape: Any, dtype: Any) -> Any:  # noqa: ANN401  (an array, or an expression)
    """The number everywhere; NumPy's type of it, of which there are booleans and floats here."""
    wanted = a.shape if shape is None else shape
    if isinstance(number, Expression):
        return gw.broadcast_to(number, wanted)
    return np.full(wanted, number, dtype if dtype is not None else bool if a.is_mask else float)


SHAPES.update(
    {
        np.ndim: lambda a: a.ndim,
        np.shape: lambda a: a.shape,
        np.size: _size,
        np.zeros_like: lambda a, *, shape=None, dtype=None: _full(a, 0, shape, dtype),
        np.ones_like: lambda a, *, shape=None, dtype=None: _full(a, 1, shape, dtype),
        np.full_like: lambda a, fill_value, *, shape=None, dtype=None: _full(a, fill_value, shape, dtype),
        np.empty_like: lambda prototype, *, shape=None, dtype=None: _full(prototype, 0, shape, dtype),
        np.imag: lambda a: np.zeros(a.shape),
        np.iscomplexobj: lambda a: False,
        np.isrealobj: lambda a: True,
        np.triu_indices_from: lambda arr, k=0: np.triu_indices(arr.shape[-2], k, arr.shape[-1]),
        np.tril_indices_from: lambda arr, k=0: np.tril_indices(arr.shape[-2], k, arr.shape[-1]),
        np.diag_indices_from: lambda arr: np.diag_indices(arr.shape[0], arr.ndim),
    }
)
