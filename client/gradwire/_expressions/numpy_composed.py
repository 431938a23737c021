"""Functions of NumPy that nobody needs under another name, composed of those that are there."""

from __future__ import annotations

import string
from collections.abc import Callable, Sequence
from functools import reduce
from math import inf
from typing import Any

import numpy as np

from gradwire._errors import InvalidGraphError
from gradwire._expressions import functions as gw
from gradwire._expressions.arranging import columns_first
from gradwire._expressions.comparing import matmul, plus
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.primitives import as_numbers
from gradwire._expressions.shapes import Axis, integers, one_axis
from gradwire._numbers import whole


def reshape(a: Operand, /, shape: int | Sequence[int], order: str = "C", *, copy: bool | None = None) -> Expression:
    """The elements in another shape, row-major, or column-major for the order ``"F"``."""
    node = as_expression(a)
    if not columns_first("reshape", order):
        return gw.reshape(node, shape)
    sizes = gw.reshape(node, shape).shape
    return gw.transpose(gw.reshape(gw.transpose(node), sizes[::-1]))


def is_finite(x: Operand) -> Expression:
    """1 where x is a finite number, else 0."""
    return gw.less(gw.abs(x), inf)


def copysign(a: Operand, b: Operand) -> Expression:
    """|a| with the sign of b; that of b = 0 counts as positive, for a graph does not tell -0 from 0."""
    return gw.mul(gw.abs(a), gw.where(gw.less(b, 0), -1, 1))


def heaviside(x: Operand, at_zero: Operand) -> Expression:
    """0 below 0, 1 above, and ``at_zero`` there; NaN is passed on."""
    node = as_expression(x)
    steps = as_numbers(gw.less(0, node))
    return gw.where(gw.equal(node, 0), at_zero, gw.where(gw.equal(node, node), steps, node))


def nan_to_num(x: Operand, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Expression:
    """Numbers in place of what is not finite; infinities become the largest numbers of float32 unless given."""
    node = as_expression(x)
    if node.is_mask:
        return node
    largest = float(np.finfo(np.float32).max)
    node = gw.where(gw.equal(node, inf), largest if posinf is None else posinf, node)
    node = gw.where(gw.equal(node, -inf), -largest if neginf is None else neginf, node)
    return gw.where(gw.equal(node, node), node, nan)


def without_nan(function: Callable[..., Expression]) -> Callable[..., Expression]:
    """A reduction that leaves out what is NaN."""

    def reduced(a: Operand, axis: Axis = None, **options: Any) -> Expression:
        return function(a, axis, where=gw.equal(a, a), **options)

    return reduced


def corrected(function: Callable[..., Expression]) -> Callable[..., Expression]:
    """A spread whose ``ddof`` may be called ``correction``, as the array API does."""

    def spread(
        a: Operand, axis: Axis = None, *, ddof: float = 0, correction: float | None = None, **more: Any
    ) -> Expression:
        return function(a, axis, ddof=ddof if correction is None else correction, **more)

    return spread


def average(a: Operand, axis: Axis = None, weights: Operand | None = None, *, keepdims: bool = False) -> Expression:
    """Weighted mean; weights of one dimension are those of the axis."""
    node = as_expression(a)
    if weights is None:
        return gw.mean(node, axis, keepdims=keepdims)
    own = as_expression(weights)
    if own.shape != node.shape:
        along = one_axis(node, axis)
        if own.shape != (node.shape[along],):
            raise InvalidGraphError(f"average of {node!r} along axis {along} by weights of shape {own.shape}")
        own = gw.reshape(own, [size if place == along else 1 for place, size in enumerate(node.shape)])
    total = gw.sum(gw.mul(node, own), axis, keepdims=keepdims)
    return gw.divide(total, gw.sum(gw.broadcast_to(own, node.shape), axis, keepdims=keepdims))


def ptp(a: Operand, axis: Axis = None, *, keepdims: bool = False) -> Expression:
    """The largest less the smallest."""
    return gw.subtract(gw.max(a, axis, keepdims=keepdims), gw.min(a, axis, keepdims=keepdims))


def cumprod(a: Operand, axis: int | None = None) -> Expression:
    """Products of the elements up to each."""
    node = as_numbers(gw.ravel(a) if axis is None else as_expression(a))
    parts = gw.split(node, node.shape[one_axis(node, axis or 0)], axis or 0) if node.size else []
    products: list[Expression] = []
    for part in parts:
        products.append(gw.mul(products[-1], part) if products else part)
    return gw.concatenate(products, axis or 0) if products else node


def with_start(function: Callable[..., Expression], start: float) -> Callable[..., Expression]:
    """A cumulative function as the array API has it, which may begin with what there is before the first element."""

    def cumulative(x: Operand, *, axis: int | None = None, include_initial: bool = False) -> Expression:
        node = as_expression(x)
        if axis is None and node.ndim > 1:
            raise InvalidGraphError(f"{node!r} has {node.ndim} axes; give the one to go along")
        own = one_axis(node, axis or 0)
        first = np.full([1 if place == own else size for place, size in enumerate(node.shape)], start)
        return gw.concatenate([*([first] if include_initial else []), function(node, own)], own)

    return cumulative


def trapezoid(y: Operand, x: Operand | None = None, dx: float = 1.0, axis: int = -1) -> Expression:
    """Integral by the trapezoidal rule."""
    node = gw.moveaxis(as_expression(y), axis, -1)
    points = None if x is None else as_expression(x)
    along = -1 if points is None or points.ndim == 1 else axis
    widths = as_expression(dx) if points is None else gw.diff(gw.moveaxis(points, along, -1))
    return gw.sum(gw.mul(widths, plus(node[..., 1:], node[..., :-1]), 0.5), -1)


def convolve(a: Operand, v: Operand, mode: str = "full") -> Expression:
    """Convolution of two vectors."""
    left, right = as_expression(a), as_expression(v)
    if left.ndim != 1 or right.ndim != 1 or not left.size or not right.size or mode not in ("full", "same", "valid"):
        raise InvalidGraphError(
            f'convolve of {left!r} and {right!r} with mode="{mode}"; give vectors that have elements'
        )
    if left.size < right.size:
        left, right = right, left
    n, m = left.size, right.size
    rows = gw.pad(left, m - 1)[np.arange(n + m - 1)[:, None] + np.arange(m)]
    start, size = {"full": (0, n + m - 1), "same": ((m - 1) // 2, n), "valid": (m - 1, n - m + 1)}[mode]
    return gw.matmul(rows, right[::-1])[start : start + size]


def polyval(p: Operand, x: Operand) -> Expression:
    """The polynomial with these coefficients, highest power first."""
    place = as_expression(x)
    zeros = np.zeros(place.shape, bool if place.is_mask else float)
    return reduce(lambda total, c: plus(gw.mul(total, place), c), as_expression(p), as_expression(zeros))


def cross(a: Operand, b: Operand, axis: int = -1) -> Expression:
    """Cross product of vectors of three elements."""
    left, right = (gw.moveaxis(as_expression(own), axis, -1) for own in (a, b))
    if left.shape[-1] != 3 or right.shape[-1] != 3:
        raise InvalidGraphError(f"cross of {left!r} and {right!r}; expected vectors of 3 elements")
    one, two = [1, 2, 0], [2, 0, 1]
    product = gw.subtract(gw.mul(left[..., one], right[..., two]), gw.mul(left[..., two], right[..., one]))
    return gw.moveaxis(product, -1, axis)


def kron(a: Operand, b: Operand) -> Expression:
    """Each element of one times all of the other, block by block."""
    left, right = as_expression(a), as_expression(b)
    rank = max(left.ndim, right.ndim)
    mine = (1,) * (rank - left.ndim) + left.shape
    theirs = (1,) * (rank - right.ndim) + right.shape
    wide = gw.reshape(left, [own for size in mine for own in (size, 1)])
    deep = gw.reshape(right, [own for size in theirs for own in (1, size)])
    return gw.reshape(gw.mul(wide, deep), [m * n for m, n in zip(mine, theirs, strict=True)])


def matrix_power(a: Operand, n: int) -> Expression:
    """A square matrix times itself; no inverse is there for negative powers."""
    node, times = as_expression(a), whole(n)
    if times is None or times < 0 or node.ndim < 2 or node.shape[-1] != node.shape[-2]:
        raise InvalidGraphError(
            f"matrix_power of {node!r} to {n!r:.64}; expected square matrices and an integer, at least 0"
        )
    one = np.eye(node.shape[-1], dtype=bool if node.is_mask else float)
    return reduce(matmul, [node] * times) if times else gw.broadcast_to(one, node.shape)


def vecdot(a: Operand, b: Operand, axis: int = -1) -> Expression:
    """Sums of products along an axis."""
    return gw.sum(gw.mul(a, b), axis)


def matrix_norm(x: Operand, *, keepdims: bool = False, ord: float | str = "fro") -> Expression:  # noqa: A002  (NumPy's name)
    """Norm of matrices."""
    return gw.norm(x, ord, axis=(-2, -1), keepdims=keepdims)


def vector_norm(x: Operand, *, axis: Axis = None, keepdims: bool = False, ord: float = 2) -> Expression:  # noqa: A002  (as above)
    """Norm of all elements, or of those along axes."""
    if isinstance(axis, tuple) or (axis is None and keepdims):
        if ord != 2:
            raise InvalidGraphError(f"vector_norm with ord={ord!r:.64} over several axes; reshape them to one")
        return gw.norm(x, axis=axis, keepdims=keepdims)
    return gw.norm(gw.ravel(x) if axis is None else x, ord, axis, keepdims=keepdims)


def take_along_axis(arr: Operand, indices: Operand, axis: int | None = -1) -> Expression:
    """Entries along an axis by an array of indices that has all axes."""
    node = gw.ravel(arr) if axis is None else as_expression(arr)
    picks = indices if isinstance(indices, Expression) else np.asarray(indices)
    own = one_axis(node, -1 if axis is None else axis)
    if picks.ndim != node.ndim:
        raise InvalidGraphError(f"take_along_axis of {node!r} by indices of shape {picks.shape}; give as many axes")
    others: list[Any] = [
        np.arange(n).reshape([-1 if a == place else 1 for a in range(node.ndim)]) for place, n in enumerate(node.shape)
    ]
    return node[(*others[:own], picks, *others[own + 1 :])]


def select(condlist: Sequence[Operand], choicelist: Sequence[Operand], default: Operand = 0) -> Expression:
    """The first choice whose condition holds."""
    if len(condlist) != len(choicelist):
        raise InvalidGraphError(f"select of {len(choicelist)} choices by {len(condlist)} conditions; give as many")
    chosen = as_expression(default)
    for condition, choice in zip(condlist[::-1], choicelist[::-1], strict=True):
        chosen = gw.where(condition, choice, chosen)
    return chosen


def array_split(ary: Operand, sections: int | Sequence[int], axis: int = 0) -> list[Expression]:
    """Parts along an axis whose sizes differ by at most 1."""
    node, count = as_expression(ary), whole(sections)
    if count is None or count < 1:
        return gw.split(node, sections, axis)
    size = node.shape[one_axis(node, axis)]
    return gw.split(
        node, np.cumsum([size // count + (place < size % count) for place in range(count)])[:-1].tolist(), axis
    )


def at_least(rank: int) -> Callable[..., Any]:
    """NumPy's ``atleast_1d`` and its like: new axes in front, behind too for three."""

    def grown(*arrays: Operand) -> Any:  # noqa: ANN401  (one, or a list)
        nodes = list(map(as_expression, arrays))
        made = []
        for node in nodes:
            missing = max(0, rank - node.ndim)
            behind = (1,) if rank == 3 and 0 < missing < 3 else ()
            made.append(gw.reshape(node, (1,) * (missing - len(behind)) + node.shape + behind))
        return made[0] if len(made) == 1 else made

    return grown


def column_stack(tup: Sequence[Operand]) -> Expression:
    """Vectors as columns beside matrices."""
    nodes = list(map(as_expression, tup))
    return gw.concatenate([gw.reshape(node, (node.size, 1)) if node.ndim < 2 else node for node in nodes], 1)


def diag(v: Operand, k: int = 0) -> Expression:
    """The matrix with a vector as its diagonal, or the diagonal of a matrix."""
    node = as_expression(v)
    if node.ndim != 1:
        return gw.diagonal(node, k)
    size = node.size + abs(k)
    places = np.arange(node.size)
    flat = gw.scatter_add(node, (places + max(-k, 0)) * size + places + max(k, 0), size * size)
    square = gw.reshape(flat, (size, size))
    return gw.less(0, square) if node.is_mask else square


def broadcast_arrays(*arrays: Operand) -> list[Expression]:
    """Operands in the shape that they broadcast to."""
    nodes = list(map(as_expression, arrays))
    shape = gw.add(*nodes).shape
    return [gw.broadcast_to(node, shape) for node in nodes]


def meshgrid(*vectors: Operand, indexing: str = "xy") -> list[Expression]:
    """Coordinates of a grid."""
    nodes = [gw.ravel(own) for own in vectors]
    letters = string.ascii_letters[: len(nodes)]
    order = letters[1::-1] + letters[2:] if indexing == "xy" else letters
    sizes = dict(zip(letters, [node.size for node in nodes], strict=True))
    shape = [sizes[letter] for letter in order]
    placed = (
        gw.reshape(node, [node.size if other == letter else 1 for other in order])
        for node, letter in zip(nodes, letters, strict=True)
    )
    return [gw.broadcast_to(node, shape) for node in placed]


def append(arr: Operand, values: Operand, axis: int | None = None) -> Expression:
    """Values behind an array."""
    return gw.concatenate([arr, values] if axis is not None else [gw.ravel(arr), gw.ravel(values)], axis or 0)


def delete(arr: Operand, obj: Any, axis: int | None = None) -> Expression:  # noqa: ANN401  (what NumPy takes)
    """An array without some entries."""
    node = gw.ravel(arr) if axis is None else as_expression(arr)
    own = one_axis(node, axis or 0)
    return gw.take(node, np.delete(np.arange(node.shape[own]), obj), own)


def rot90(m: Operand, k: int = 1, axes: Sequence[int] = (0, 1)) -> Expression:
    """Quarter turns from the first of two axes to the second."""
    node = as_expression(m)
    first, second = (one_axis(node, axis) for axis in integers(axes) or ())
    turned = [
        lambda: node,
        lambda: gw.swapaxes(gw.flip(node, second), first, second),
        lambda: gw.flip(node, (first, second)),
        lambda: gw.flip(gw.swapaxes(node, first, second), second),
    ]
    return turned[k % 4]()


def interp(
    x: Operand,
    xp: Any,  # noqa: ANN401  (what NumPy makes an array of)
    fp: Operand,
    left: Operand | None = None,
    right: Operand | None = None,
) -> Expression:
    """Linear interpolation between points at constant places, which ascend; beyond them constant, or what is given."""
    if isinstance(xp, Expression):
        raise InvalidGraphError("np.interp with an expression for the places of the points; they are constants")
    node, heights, places = as_expression(x), as_expression(fp), np.asarray(xp, float)
    widths = np.diff(places)
    if places.ndim != 1 or heights.shape != places.shape or not places.size or not (widths > 0).all():
        raise InvalidGraphError("np.interp takes points at places that ascend, with a height for each")
    into = gw.clip(gw.subtract(gw.expand_dims(node, -1), places[:-1]), 0, widths)
    found = gw.add(heights[0], gw.sum(gw.mul(into, gw.diff(heights), 1 / widths), -1))
    found = found if left is None else gw.where(gw.less(node, places[0]), left, found)
    return found if right is None else gw.where(gw.less(places[-1], node), right, found)
