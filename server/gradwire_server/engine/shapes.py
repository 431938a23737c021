"""Shapes: sizes without overflow, broadcasting, and sums that undo it."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from gradwire_server.engine.graph import Array, Shape

MAX_ELEMENTS = 2**60
"""Product of all non-zero axes that NumPy can still address, for any dtype in use."""

PLAINLY = 128
"""Numbers of float32 that may be added one by one; of more, digits get lost as the sum grows."""

FLOAT32, FLOAT64 = np.dtype(np.float32), np.dtype(np.float64)


def size(shape: Sequence[int]) -> int:
    """Number of elements; exact, where ``np.prod`` wraps silently."""
    return prod(shape)


def addressed(shape: Sequence[int]) -> int:
    """Product of all non-zero axes, which NumPy must be able to address even where there are no elements."""
    return prod([length or 1 for length in shape])


def text(shape: Sequence[int]) -> str:
    """The shape as NumPy prints it, cut after a few axes."""
    if len(shape) > 8:
        return f"({', '.join(map(str, shape[:8]))}, ... {len(shape)} axes)"
    return str(tuple(shape))


def problem(shape: Sequence[int], max_rank: int) -> str | None:
    """What is wrong with a shape that somebody sent, or that follows from one, or None."""
    if len(shape) > max_rank:
        return f"has {len(shape)} axes; at most {max_rank} are allowed"
    for axis, length in enumerate(shape):
        if length < 0:
            return f"has size {length} on axis {axis}; an axis has at least size 0"
        if length >= MAX_ELEMENTS:
            return f"has size {length} on axis {axis}; an axis has less than {MAX_ELEMENTS} entries"
    elements = addressed(shape)
    if elements >= MAX_ELEMENTS:
        return f"has shape {text(shape)} with {elements} elements; at most {MAX_ELEMENTS} can be addressed"
    return None


def first_true(mask: Array) -> tuple[int, ...] | None:
    """Place of the first true element, or None; without a list of all of them, which may be larger than the mask."""
    if not mask.any():
        return None
    return tuple(map(int, np.unravel_index(np.argmax(mask), mask.shape)))


def broadcast(shapes: Sequence[Shape]) -> Shape | None:
    """The common shape by NumPy's rule, or None if there is none."""
    first = shapes[0]
    if all(shape == first for shape in shapes):
        return first
    rank = max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for axis, length in enumerate(shape, start=rank - len(shape)):
            if length == 1 or result[axis] == length:
                continue
            if result[axis] != 1:
                return None
            result[axis] = length
    return tuple(result)


def lanes_last(rows: Array) -> Array:
    """A view of [lanes, *shape] as [*shape, lanes]."""
    return rows.transpose(*range(1, rows.ndim), 0)


def lanes_first(array: Array) -> Array:
    """A view of [*shape, lanes] as [lanes, *shape]."""
    return array.transpose(-1, *range(array.ndim - 1))


def one_lane(array: Array, lane: int) -> Array:
    """A view of one lane of (*shape, lanes), as (*shape, 1); what lanes share is the same for all."""
    return array if array.shape[-1] == 1 else array[..., lane : lane + 1]


def accumulator(dtype: np.dtype[Any], terms: int) -> np.dtype[Any]:
    """The dtype in which to add that many numbers of ``dtype`` one by one."""
    return FLOAT64 if dtype == FLOAT32 and terms > PLAINLY else dtype


def sum_over(array: Array, axes: tuple[int, ...], out: Array | None = None) -> Array:
    """The sum over ``axes``, which stay at size 1, put into ``out`` if given; of float32 as exact as float32 can be."""
    # NumPy adds in pairs along a last axis that is contiguous, but one by one along others.
    in_pairs = axes == (array.ndim - 1,) and array.strides[-1] == array.itemsize
    plain = in_pairs or array.dtype != FLOAT32
    wide = array.dtype if plain else accumulator(array.dtype, size([array.shape[axis] for axis in axes]))
    if wide == array.dtype:
        return np.add.reduce(array, axis=axes, keepdims=True, out=out)
    total: Array = np.add.reduce(array, axis=axes, keepdims=True, dtype=wide).astype(array.dtype)
    if out is not None:
        # Not in the reduction itself, which would round to the dtype of ``out`` now and then.
        out[...] = total
    return total


def unbroadcast(array: Array, shape: Shape) -> Array:
    """Sum ``array`` over the axes along which a tensor of ``shape`` was broadcast to it.

    Axes that ``array`` itself leaves at size 1 stay; adding the result to a tensor of ``shape`` broadcasts them.
    """
    if array.shape == shape:
        return array
    extra = array.ndim - len(shape)
    if extra > 0:
        array = sum_over(array, tuple(range(extra))).reshape(array.shape[extra:])
    elif extra < 0:
        array = array.reshape((1,) * -extra + array.shape)
    axes = tuple(a for a, (have, want) in enumerate(zip(array.shape, shape, strict=True)) if want == 1 != have)
    return sum_over(array, axes) if axes else array
