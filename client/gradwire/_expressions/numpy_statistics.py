"""Functions of NumPy that compare entries with each other: covariances, slopes along an axis, sums by number."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradwire._errors import InvalidGraphError
from gradwire._expressions import functions as gw
from gradwire._expressions.comparing import product
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.numpy_composed import at_least, convolve
from gradwire._expressions.primitives import as_numbers
from gradwire._expressions.shapes import Axis, axes_of, one_axis
from gradwire._numbers import whole


def cov(
    m: Operand, y: Operand | None = None, rowvar: bool = True, bias: bool = False, ddof: int | None = None
) -> Expression:
    """Covariances of variables, each a row, or a column without ``rowvar``; a scalar of one variable."""
    given = [m] if y is None else [m, y]
    rows = []
    for place, one in enumerate(given):
        node = as_numbers(as_expression(one))
        if node.ndim > 2:
            raise InvalidGraphError(f"cov of {node!r}; expected a vector or a matrix")
        wide = at_least(2)(node)
        # NumPy leaves a first operand of one row as it is.
        turned = not rowvar and (place or wide.shape[0] != 1)
        rows.append(gw.transpose(wide) if turned else wide)
    variables = gw.concatenate(rows)
    count = variables.shape[1]
    fewer = (0 if bias else 1) if ddof is None else ddof
    if count <= fewer:
        raise InvalidGraphError(f"cov of {count} observations with ddof={fewer}; expected more of them")
    centred = gw.subtract(variables, gw.mean(variables, 1, keepdims=True))
    return gw.squeeze(gw.mul(gw.matmul(centred, gw.transpose(centred)), 1 / (count - fewer)))


def corrcoef(x: Operand, y: Operand | None = None, rowvar: bool = True) -> Expression:
    """Correlations of variables, as ``cov`` takes them."""
    found = cov(x, y, rowvar)
    if not found.shape:
        return gw.divide(found, found)
    spread = gw.sqrt(gw.diagonal(found))
    return gw.divide(found, gw.outer(spread, spread))


def gradient(f: Operand, *varargs: Operand, axis: Axis = None, edge_order: int = 1) -> Any:  # noqa: ANN401  (one, or a list)
    """Slopes along axes by central differences, of numbers at equal distances or at places that are given."""
    node = as_expression(f)
    if edge_order != 1:
        raise InvalidGraphError(f"np.gradient with edge_order={edge_order!r:.64}; there is 1")
    axes = axes_of(node, axis)
    spacings: Sequence[Operand] = varargs * len(axes) if len(varargs) == 1 else varargs or (1.0,) * len(axes)
    if len(spacings) != len(axes):
        raise InvalidGraphError(f"np.gradient of {node!r} with {len(varargs)} distances for {len(axes)} axes")
    found = [_slopes(node, own, as_expression(spacing)) for own, spacing in zip(axes, spacings, strict=True)]
    return found[0] if len(found) == 1 else tuple(found)


def _slopes(node: Expression, axis: int, spacing: Expression) -> Expression:
    rows = gw.moveaxis(node, axis, -1)
    size = rows.shape[-1]
    if size < 2 or spacing.shape not in ((), (size,)):
        raise InvalidGraphError(
            f"np.gradient of {node!r} along axis {axis}; expected at least two numbers there, and one distance or a "
            "place for each"
        )
    widths = gw.diff(spacing) if spacing.shape else gw.broadcast_to(spacing, (size - 1,))
    steps = gw.divide(gw.diff(rows), widths)
    # Inside each slope is the mean of its neighbours, each weighed with the distance on the other side.
    before, after = widths[:-1], widths[1:]
    inside = gw.divide(gw.add(gw.mul(steps[..., :-1], after), gw.mul(steps[..., 1:], before)), gw.add(before, after))
    return gw.moveaxis(gw.concatenate([steps[..., :1], inside, steps[..., -1:]], -1), -1, axis)


def diff(
    a: Operand, n: int = 1, axis: int = -1, prepend: Operand | None = None, append: Operand | None = None
) -> Expression:
    """Differences of neighbours, also to what is put before and behind."""
    node = as_expression(a)
    own = one_axis(node, axis)
    parts = []
    for beside in (prepend, node, append):
        if beside is not None:
            part = as_expression(beside)
            shape = [1 if place == own else size for place, size in enumerate(node.shape)]
            parts.append(gw.broadcast_to(part, shape) if not part.shape else part)
    return gw.diff(gw.concatenate(parts, own), n, own)


def ediff1d(ary: Operand, to_end: Operand | None = None, to_begin: Operand | None = None) -> Expression:
    """Differences of neighbours among all elements, between what is put before and behind."""
    parts = [to_begin, gw.diff(gw.ravel(ary)), to_end]
    return gw.concatenate([gw.ravel(part) for part in parts if part is not None])


def bincount(x: Operand, weights: Operand | None = None, minlength: int = 0) -> Expression:
    """Sums of weights by number: of constant integers, or of an input of integers that are below ``minlength``."""
    least = whole(minlength)
    if weights is None or least is None:
        raise InvalidGraphError("np.bincount takes weights= and an integer minlength=; counts have no derivative")
    if isinstance(x, Expression) and x.value is None:
        if not least:
            raise InvalidGraphError(f"np.bincount of {x!r}: give minlength=, for how many sums there are is a shape")
        return gw.scatter_add(weights, x, least)
    picks = np.asarray(x.value if isinstance(x, Expression) else x)
    return gw.scatter_add(weights, picks, max(least, int(picks.max(initial=-1)) + 1))


def correlate(a: Operand, v: Operand, mode: str = "valid") -> Expression:
    """Sliding sums of products of two vectors."""
    left, right = as_expression(a), as_expression(v)
    return product(convolve)(left, right[::-1] if right.ndim == 1 else right, mode)


def sinc(x: Operand) -> Expression:
    """sin(pi x) / (pi x), near 0 by its series, so that its derivatives are right there."""
    angle = gw.mul(pi, x)
    near = gw.less(gw.square(angle), 1e-4)
    far = gw.where(near, 1, angle)
    z = gw.square(gw.where(near, angle, 0))
    series = gw.add(1, gw.mul(z, gw.add(-1 / 6, gw.mul(z, gw.add(1 / 120, gw.mul(z, -1 / 5040))))))
    return gw.where(near, series, gw.divide(gw.sin(far), far))


def linspace(start: Operand, stop: Operand, num: int = 50, endpoint: bool = True) -> Expression:
    """Numbers at equal distances from one to another."""
    count = whole(num)
    if count is None or count < 1:
        raise InvalidGraphError(f"np.linspace with num={num!r:.64}; expected an integer, at least 1")
    first, last = as_expression(start), as_expression(stop)
    shares: ArrayLike = np.linspace(0, 1, count, endpoint=endpoint)
    rank = gw.add(first, last, 0).ndim
    along = np.reshape(shares, (count, *[1] * rank))
    return gw.add(gw.mul(first, 1 - along), gw.mul(last, along))
