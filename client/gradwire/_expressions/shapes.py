"""Which shapes, axes and indices fit a node, and the shapes of what is made of it."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradwire._arrays import MAX_INDEX
from gradwire._errors import InvalidGraphError
from gradwire._expressions.node import Node, Shape
from gradwire._numbers import whole

Axis = int | tuple[int, ...] | None


def integers(given: object) -> list[int] | None:
    """One integer or several, as a list; None if it is something else."""
    one = whole(given)
    try:
        numbers = [whole(number) for number in cast("Iterable[object]", given)] if one is None else [one]
    except TypeError:
        return None
    integers = [number for number in numbers if number is not None]
    return integers if len(integers) == len(numbers) else None


def flag(name: str, value: object) -> bool:
    """The value, if it is True or False."""
    if not isinstance(value, bool | np.bool_):
        raise InvalidGraphError(f"{name}={value!r:.64} is neither True nor False")
    return bool(value)


def as_shape(shape: int | Sequence[int], name: str) -> Shape:
    """The shape that a caller gives a source of this name."""
    sizes = integers(shape)
    if sizes is None:
        raise InvalidGraphError(f'{shape!r:.64}, of "{name}", is no shape; give a tuple of integers', node=name)
    if min(sizes, default=0) < 0:
        raise InvalidGraphError(f'shape {tuple(sizes)} of "{name}" has a negative size', node=name)
    if max(sizes, default=0) > MAX_INDEX:
        raise InvalidGraphError(f'shape {tuple(sizes)} of "{name}" has a size beyond 64 bits, signed', node=name)
    return tuple(sizes)


def is_integer(node: Node) -> bool:
    """Whether the node holds row indices."""
    if node.value is not None:
        return node.value.dtype == np.int64
    return node.attributes.get("dtype") == "int64"


def check_floats(op: str, operands: Sequence[Node]) -> None:
    """Refuse row indices where an op computes."""
    for node in operands:
        if is_integer(node):
            raise InvalidGraphError(
                f"{op} of {node!r}, which holds row indices; only take and scatter_add use them, as second operands",
                node=node.name,
            )


def axes_of(node: Node, axis: Axis) -> tuple[int, ...]:
    """The axes that ``axis`` names, counted from the front."""
    if axis is None:
        return tuple(range(node.ndim))
    axes = integers(axis) if isinstance(axis, tuple) or whole(axis) is not None else None
    if axes is None:
        raise InvalidGraphError(
            f"axis={axis!r:.64} names no axis of {node!r}; give an integer, a tuple of integers, or None for all"
        )
    return normal_axes(node, tuple(axes))


def check_elements(called: str, node: Node, axis: Axis) -> None:
    """Refuse to look for the largest of no elements, in the name of the function that was ``called``."""
    axes = axes_of(node, axis)
    rest = math.prod(size for a, size in enumerate(node.shape) if a not in axes)
    if node.size == 0 and rest > 0:
        raise InvalidGraphError(f"{called} over an empty axis of {node!r}; expected at least one element")


def normal_axes(node: Node, axes: tuple[int, ...]) -> tuple[int, ...]:
    """The axes, counted from the front; each at most once."""
    for axis in axes:
        if not -node.ndim <= axis < node.ndim:
            raise InvalidGraphError(f"axis {axis} is out of range for {node!r} with {node.ndim} axes")
    normal = tuple(axis % node.ndim for axis in axes)
    if len(set(normal)) != len(normal):
        raise InvalidGraphError(f"axes {axes} of {node!r} name one axis twice")
    return normal


def broadcast(op: str, nodes: Sequence[Node], shapes: Sequence[Shape]) -> Shape:
    """The shape that all these broadcast to."""
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    rank = max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, start=rank - len(shape)):
            if size == 1 or result[axis] == size:
                continue
            if result[axis] != 1:
                shown = " and ".join(repr(node) for node in nodes[:2])
                raise InvalidGraphError(f"{op} of {shown}: the shapes do not broadcast")
            result[axis] = size
    return tuple(result)


def reduced(node: Node, axes: tuple[int, ...], *, keepdims: bool) -> Shape:
    """The shape without these axes, or with 1 in their places."""
    if keepdims:
        return tuple(1 if a in axes else size for a, size in enumerate(node.shape))
    return tuple(size for a, size in enumerate(node.shape) if a not in axes)


def multiplied(left: Node, right: Node) -> Shape:
    """The shape of a matrix product."""
    check_floats("matmul", [left, right])
    for node in (left, right):
        if not node.shape:
            raise InvalidGraphError(f"matmul of the scalar {node!r}; use * to scale")
    inner = right.shape[0] if right.ndim == 1 else right.shape[-2]
    if left.shape[-1] != inner:
        raise InvalidGraphError(f"matmul of {left!r} and {right!r}: {left.shape[-1]} columns do not match {inner} rows")
    stack = broadcast("matmul", [left, right], [left.shape[:-2], right.shape[:-2]])
    return stack + left.shape[-2:-1] + (right.shape[-1:] if right.ndim > 1 else ())


def reshaped(node: Node, shape: int | Sequence[int]) -> Shape:
    """The shape that a caller gives the elements of a node; one size may be -1."""
    check_floats("reshape", [node])
    sizes = integers(shape)
    if sizes is None:
        raise InvalidGraphError(f"{shape!r:.64}, for reshape of {node!r}, is no shape; give a tuple of integers")
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and node.size % known == 0:
        sizes[sizes.index(-1)] = node.size // known
    fits = min(sizes, default=0) >= 0 and max(sizes, default=0) <= MAX_INDEX
    if not fits or math.prod(sizes) != node.size:
        raise InvalidGraphError(f"reshape of {node!r} with {node.size} elements to {shape!r} does not fit")
    return tuple(sizes)


def transposed(node: Node, axes: int | Sequence[int] | None) -> tuple[int, ...]:
    """The order of its axes that a caller gives; reversed for None."""
    check_floats("transpose", [node])
    given = list(reversed(range(node.ndim))) if axes is None else integers(axes)
    if given is None or len(given) != node.ndim:
        raise InvalidGraphError(f"transpose of {node!r} with axes {axes!r:.64}: give all {node.ndim} of them, integers")
    return normal_axes(node, tuple(given))


_MOST_EXPONENTS = 256
"""Different exponents of one power; each is a node or two."""


def exponents(given: ArrayLike) -> tuple[NDArray[np.float64], list[float]]:
    """The exponents that a caller gives for elements, and those of them that differ."""
    try:
        array = np.asarray(given, np.float64)
    except (TypeError, ValueError):
        array = np.full(1, np.nan)
    own = np.unique(array)
    if isinstance(given, bool | str) or not np.isfinite(own).all() or len(own) > _MOST_EXPONENTS:
        raise InvalidGraphError(
            f"power with exponent {given!r:.64}; expected a finite number, or an array of at most "
            f"{_MOST_EXPONENTS} different ones"
        )
    return array, own.tolist()


def one_axis(node: Node, axis: object) -> int:
    """The one axis that ``axis`` names, counted from the front."""
    given = whole(axis)
    if given is None:
        raise InvalidGraphError(f"axis={axis!r:.64} names no axis of {node!r}; give an integer")
    return normal_axes(node, (given,))[0]


def taken_along(node: Node, axis: object) -> int:
    """The axis that entries are taken along."""
    if not node.shape:
        raise InvalidGraphError(f"take from the scalar {node!r}: it has no rows")
    return one_axis(node, axis)


def taken(node: Node, picks: Node, axis: int) -> Shape:
    """The shape of the entries that ``picks`` has the indices of."""
    _check_indices("take", node, picks, node.shape[axis])
    return node.shape[:axis] + picks.shape + node.shape[axis + 1 :]


def _check_indices(op: str, node: Node, picks: Node, size: int) -> None:
    if not is_integer(picks):
        raise InvalidGraphError(f"{op} with indices {picks!r} of floats; give integers, gw.input(..., dtype='int64')")
    if picks.value is not None and picks.size:
        low, high = int(picks.value.min()), int(picks.value.max())
        if low < -size or high >= size:
            wrong = high if high >= size else low
            raise InvalidGraphError(f"{op} of row {wrong} from {node!r}, which has {size} rows")


def scattered(node: Node, picks: Node, size: object, axis: object) -> tuple[int, Shape]:
    """The axis, counted from the front, and the shape of sums of entries by index."""
    count, given, rank = whole(size), whole(axis), node.ndim - picks.ndim + 1
    if count is None or not 0 <= count <= MAX_INDEX:
        raise InvalidGraphError(f"scatter_add with size={size!r:.64}; expected an integer, at least 0")
    if given is None or not -rank <= given < rank:
        raise InvalidGraphError(f"scatter_add with axis={axis!r:.64}; the result has {max(rank, 0)} axes")
    own = given % rank
    if node.shape[own : own + picks.ndim] != picks.shape:
        raise InvalidGraphError(
            f"scatter_add of {node!r} with indices of shape {picks.shape}; expected one index for each entry, and axes "
            f"{node.shape[own : own + picks.ndim]} from axis {own} on"
        )
    _check_indices("scatter_add", node, picks, count)
    return own, (*node.shape[:own], count, *node.shape[own + picks.ndim :])


def concatenated(nodes: Sequence[Node], axis: object) -> tuple[int, Shape]:
    """The axis, counted from the front, and the shape of nodes one after another."""
    if not nodes:
        raise InvalidGraphError("concatenate of nothing; give at least one operand")
    check_floats("concatenate", nodes)
    first = nodes[0]
    if not first.shape:
        raise InvalidGraphError(f"concatenate of the scalar {first!r}; gw.stack makes a vector of scalars")
    own = one_axis(first, axis)
    for node in nodes:
        if (
            node.ndim != first.ndim
            or node.shape[:own] + node.shape[own + 1 :] != first.shape[:own] + first.shape[own + 1 :]
        ):
            raise InvalidGraphError(
                f"concatenate of {first!r} and {node!r} along axis {own}: shapes are equal but for that axis"
            )
    return own, (*first.shape[:own], sum(node.shape[own] for node in nodes), *first.shape[own + 1 :])
