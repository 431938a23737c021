"""NumPy's functions that move elements, composed of the ops that do."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import ArrayLike

from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.primitives import (
    add,
    concatenate,
    equal,
    mul,
    negative,
    part,
    reshape,
    take,
    transpose,
    unary,
    where,
)
from gradwire._expressions.primitives import sum as sum_over
from gradwire._expressions.shapes import Axis, as_shape, axes_of, broadcast, integers, normal_axes, one_axis
from gradwire._numbers import whole

Sections = int | Sequence[int]


def stack(arrays: Sequence[Operand], axis: int = 0) -> Expression:
    """Operands of one shape as the entries of a new axis."""
    nodes = list(map(as_expression, arrays))
    if not nodes:
        raise InvalidGraphError("stack of nothing; give at least one operand")
    found = sorted({node.shape for node in nodes})
    if len(found) > 1:
        raise InvalidGraphError(f"stack of operands of shapes {found}; give equal ones")
    return concatenate([expand_dims(node, axis) for node in nodes], axis)


def split(x: Operand, sections: Sections, axis: int = 0) -> list[Expression]:
    """So many parts of equal size along an axis, or the parts between the positions that are given."""
    node = as_expression(x)
    own = one_axis(node, axis)
    count, size = whole(sections), node.shape[own]
    if count is None:
        given = integers(sections)
        if given is None:
            raise InvalidGraphError(f"split of {node!r} at {sections!r:.64}; give an integer or positions")
        ends = [0, *(min(end if end >= 0 else max(end + size, 0), size) for end in given), size]
    elif count < 1 or size % count:
        raise InvalidGraphError(f"split of {node!r} along axis {own} into {count} equal parts; {size} is no multiple")
    else:
        ends = list(range(0, size + 1, size // count)) if size else [0] * (count + 1)
    return [_between(node, own, start, max(start, end)) for start, end in pairwise(ends)]


def expand_dims(x: Operand, axis: int | tuple[int, ...]) -> Expression:
    """New axes of size 1, at these places of the result."""
    node = as_expression(x)
    given = integers(axis)
    if given is None:
        raise InvalidGraphError(f"expand_dims of {node!r} with axis={axis!r:.64}; give integers")
    rank = node.ndim + len(given)
    places = normal_axes(Expression("constant", (1,) * rank), tuple(given))
    rest = iter(node.shape)
    return reshape(node, [1 if place in places else next(rest) for place in range(rank)])


def squeeze(x: Operand, axis: Axis = None) -> Expression:
    """The axes of size 1 gone: all of them, or those that are named."""
    node = as_expression(x)
    axes = [a for a, size in enumerate(node.shape) if size == 1] if axis is None else list(axes_of(node, axis))
    wrong = [a for a in axes if node.shape[a] != 1]
    if wrong:
        raise InvalidGraphError(f"squeeze of axis {wrong[0]} of {node!r}, which has size {node.shape[wrong[0]]}, not 1")
    return reshape(node, [size for a, size in enumerate(node.shape) if a not in axes]) if axes else node


def ravel(x: Operand, order: str = "C") -> Expression:
    """The elements as a vector, row-major, or column-major for the order ``"F"``."""
    node = as_expression(x)
    return reshape(transpose(node) if columns_first("ravel", order) else node, (node.size,))


def columns_first(called: str, order: object) -> bool:
    """Whether an order of elements is Fortran's; expressions are row-major, so that all others are one."""
    if order not in ("C", "F", "A", "K"):
        raise InvalidGraphError(f"{called} with order={order!r:.64}; choose 'C' or 'F'")
    return order == "F"


def broadcast_to(x: Operand, shape: int | Sequence[int]) -> Expression:
    """The elements repeated along axes of size 1, or new ones, to a shape."""
    node, wanted = as_expression(x), as_shape(shape, "broadcast_to")
    if broadcast("broadcast_to", [node], [node.shape, wanted]) != wanted:
        raise InvalidGraphError(f"broadcast_to of {node!r} to {wanted}: it does not fit")
    if node.shape == wanted:
        return node
    old = (1,) * (len(wanted) - node.ndim) + node.shape
    # Ones along the axes that grow.
    ones = [1 if have == want else want for have, want in zip(old, wanted, strict=True)]
    return mul(node, np.ones(ones, bool if node.is_mask else float))


def swapaxes(x: Operand, axis1: int, axis2: int) -> Expression:
    """Two axes in each other's place."""
    node = as_expression(x)
    order = list(range(node.ndim))
    first, second = one_axis(node, axis1), one_axis(node, axis2)
    order[first], order[second] = second, first
    return transpose(node, order)


def moveaxis(x: Operand, source: int | Sequence[int], destination: int | Sequence[int]) -> Expression:
    """Axes in other places; the others keep their order."""
    node = as_expression(x)
    sources, places = (axes_of(node, tuple(own) if isinstance(own, Sequence) else own) for own in (source, destination))
    if len(sources) != len(places):
        raise InvalidGraphError(f"moveaxis of {node!r}: {len(sources)} axes for {len(places)} places")
    order = [axis for axis in range(node.ndim) if axis not in sources]
    for place, axis in sorted(zip(places, sources, strict=True)):
        order.insert(place, axis)
    return transpose(node, order)


def flip(x: Operand, axis: Axis = None) -> Expression:
    """The elements backwards along axes."""
    node = as_expression(x)
    axes = axes_of(node, axis)
    return part(node, [(n - 1, n, -1) if a in axes and n else (0, n, 1) for a, n in enumerate(node.shape)])


def roll(x: Operand, shift: int | Sequence[int], axis: Axis = None) -> Expression:
    """The elements shifted along an axis, or all of them, those that leave it coming in at its start.

    Several axes take as many shifts, or one for all.
    """
    node = as_expression(x)
    if isinstance(axis, tuple):
        shifts = integers(shift) or []
        if len(shifts) not in (1, len(axis)):
            raise InvalidGraphError(
                f"roll of {node!r} by {shift!r:.64} along {len(axis)} axes; give one integer for each"
            )
        for own, each in zip(axis, shifts * (len(axis) if len(shifts) == 1 else 1), strict=True):
            node = roll(node, each, own)
        return node
    if axis is None:
        return reshape(roll(ravel(node), shift, 0), node.shape)
    own = one_axis(node, axis)
    steps = whole(shift)
    if steps is None:
        raise InvalidGraphError(f"roll of {node!r} by {shift!r:.64}; give an integer")
    size = node.shape[own]
    cut = -steps % size if size else 0
    return concatenate([_between(node, own, cut, size), _between(node, own, 0, cut)], own) if cut else node


def repeat(x: Operand, repeats: int | Sequence[int], axis: int | None = None) -> Expression:
    """Each entry so many times along an axis, or each element; a number for all, or one for each."""
    given, times = as_expression(x), integers(repeats)
    node = ravel(given) if axis is None else given
    own = one_axis(node, axis or 0)
    if times is None or min(times, default=0) < 0 or len(times) not in (1, node.shape[own]):
        raise InvalidGraphError(
            f"repeat of {given!r} {repeats!r:.64} times; give an integer, at least 0, or one for each of "
            f"{node.shape[own]} entries"
        )
    return take(node, np.repeat(np.arange(node.shape[own]), times), own)


def stop_gradient(x: Operand) -> Expression:
    """x, of which no gradient goes back: a constant to whoever differentiates, whatever its value is.

    It is ``jax.lax.stop_gradient`` and torch's ``detach``: for targets that follow the parameters, straight-through
    estimators, ``x + gw.stop_gradient(rounded - x)``, and baselines.
    """
    return unary("stop_gradient", x)


def tile(x: Operand, reps: int | Sequence[int]) -> Expression:
    """Copies of the whole, so many along each axis."""
    node, times = as_expression(x), integers(reps)
    if times is None or min(times, default=1) < 0:
        raise InvalidGraphError(f"tile of {node!r} with {reps!r:.64}; give integers, at least 0")
    rank = max(node.ndim, len(times))
    node = reshape(node, (1,) * (rank - node.ndim) + node.shape)
    for axis, count in enumerate((1,) * (rank - len(times)) + tuple(times)):
        if count != 1:
            node = take(node, np.tile(np.arange(node.shape[axis]), count), axis)
    return node


def diff(x: Operand, n: int = 1, axis: int = -1) -> Expression:
    """Each entry along an axis less the one before it, ``n`` times."""
    node, times = as_expression(x), whole(n)
    if times is None or times < 0:
        raise InvalidGraphError(f"diff of {node!r} with n={n!r:.64}; give an integer, at least 0")
    own = one_axis(node, axis)
    for _ in range(times):
        size = node.shape[own]
        later, earlier = _between(node, own, min(1, size), size), _between(node, own, 0, max(size - 1, 0))
        # Of booleans NumPy has where they differ.
        node = equal(equal(later, earlier), 0) if node.is_mask else add(later, negative(earlier))
    return node


_FROM_INSIDE = ("edge", "reflect", "symmetric", "wrap")
"""Modes of ``pad`` that repeat elements."""


def pad(
    x: Operand,
    pad_width: int | Sequence[int] | Sequence[Sequence[int]],
    constant_values: ArrayLike = 0,
    *,
    mode: str = "constant",
) -> Expression:
    """Elements added before and after along each axis; widths as NumPy takes them.

    Args:
        x: What to pad.
        pad_width: How many elements, for all sides, before and after, or before and after along each axis.
        constant_values: The number to add, or numbers, as widths are given.
        mode: ``"constant"``; or ``"edge"``, ``"reflect"``, ``"symmetric"`` or ``"wrap"``, which repeat elements.
    """
    node = as_expression(x)
    try:
        widths = np.broadcast_to(np.asarray(pad_width), (node.ndim, 2)).tolist()
        values = np.broadcast_to(np.asarray(constant_values, bool if node.is_mask else float), (node.ndim, 2))
    except (TypeError, ValueError):
        widths = [[-1, -1]]
    if any(whole(width) is None or width < 0 for pair in widths for width in pair):
        raise InvalidGraphError(f"pad of {node!r} by {pad_width!r:.64}; give integers, at least 0, or pairs of them")
    if mode != "constant" and mode not in _FROM_INSIDE:
        choices = ", ".join(map(repr, _FROM_INSIDE))
        raise InvalidGraphError(
            f"pad with mode={mode!r:.64}; choose 'constant', {choices}, or concatenate what belongs there"
        )
    for axis, pair in enumerate(widths):
        if mode == "constant":
            before, after = (
                np.full((*node.shape[:axis], n, *node.shape[axis + 1 :]), value)
                for n, value in zip(pair, values[axis], strict=True)
            )
            node = concatenate([own for own in (before, node, after) if own is node or own.size], axis)
        elif any(pair):
            if not node.shape[axis]:
                raise InvalidGraphError(f"pad of {node!r} with mode={mode!r}: axis {axis} has no elements to repeat")
            node = take(node, np.pad(np.arange(node.shape[axis]), pair, mode=mode), axis)  # type: ignore[call-overload]  # one of the four
    return node


def tril(x: Operand, k: int = 0) -> Expression:
    """Matrices with 0 above the k-th diagonal."""
    node = _matrices("tril", x)
    return where(np.tri(node.shape[-2], node.shape[-1], k), node, _zero(node))


def triu(x: Operand, k: int = 0) -> Expression:
    """Matrices with 0 below the k-th diagonal."""
    node = _matrices("triu", x)
    return where(np.tri(node.shape[-2], node.shape[-1], k - 1), _zero(node), node)


def diagonal(x: Operand, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expression:
    """The elements of matrices whose column is their row and the offset, as the last axis."""
    node = moveaxis(_matrices("diagonal", x), (axis1, axis2), (-2, -1))
    rows, columns = node.shape[-2:]
    places = np.arange(max(0, -offset), max(0, -offset, min(rows, columns - offset)))
    flat = reshape(node, (*node.shape[:-2], rows * columns))
    return take(flat, places * columns + places + offset, -1)


def trace(x: Operand, offset: int = 0) -> Expression:
    """The sum of the diagonal."""
    return sum_over(diagonal(x, offset), -1)


def _zero(node: Expression) -> float:
    """What is put beside the elements of a node, so that masks stay some."""
    return False if node.is_mask else 0.0


def _matrices(called: str, x: Operand) -> Expression:
    node = as_expression(x)
    if node.ndim < 2:
        raise InvalidGraphError(f"{called} of {node!r}; expected a matrix, or a stack of them")
    return node


def _between(node: Expression, axis: int, start: int, stop: int) -> Expression:
    """The entries from ``start`` to before ``stop`` along an axis."""
    return part(node, [(start, stop - start, 1) if a == axis else (0, n, 1) for a, n in enumerate(node.shape)])
