"""Shapes: sizes without overflow, texts, broadcasting."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from gradwire_server.engine.graph.graph import Array, Shape

MAX_ELEMENTS = 2**60
"""Product of all non-zero axes that NumPy can still address, for any dtype in use."""


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
