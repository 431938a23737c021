"""Functions of NumPy that put entries together or apart at constant places, composed of those that are there."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any

import numpy as np

from gradwire._errors import InvalidGraphError
from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, Operand, as_expression
from gradwire._expressions.numpy_composed import diag
from gradwire._expressions.shapes import integers, one_axis
from gradwire._numbers import whole


def take(a: Operand, indices: Operand, axis: int | None = None, mode: str = "raise") -> Expression:
    """Entries along an axis, or of all elements; of constant indices those outside wrapped or clipped."""
    node = as_expression(a) if axis is not None else gw.ravel(a)
    own = one_axis(node, axis or 0)
    size = node.shape[own]
    if mode != "raise":
        if isinstance(indices, Expression) or mode not in ("wrap", "clip"):
            raise InvalidGraphError(
                f"np.take with mode={mode!r:.64}; constant indices may be wrapped ('wrap') or clipped ('clip'); others "
                "are so before the call"
            )
        picks = np.asarray(indices)
        indices = picks % size if mode == "wrap" else np.clip(picks, 0, size - 1)
    return gw.take(node, indices, own)


def block(arrays: Any) -> Expression:  # noqa: ANN401  (nested lists)
    """Blocks in nested lists, the innermost along the last axis, those around them along the one before it."""

    def depth(part: Any) -> int:  # noqa: ANN401  (as above)
        return 1 + max(map(depth, part), default=0) if isinstance(part, list) else 0

    def rank(part: Any) -> int:  # noqa: ANN401  (as above)
        return max(map(rank, part), default=0) if isinstance(part, list) else as_expression(part).ndim

    levels = depth(arrays)
    axes = max(levels, rank(arrays))

    def joined(part: Any, level: int) -> Expression:  # noqa: ANN401  (as above)
        if not isinstance(part, list):
            node = as_expression(part)
            return gw.reshape(node, (1,) * (axes - node.ndim) + node.shape)
        return gw.concatenate([joined(one, level - 1) for one in part], -level)

    return joined(arrays, levels)


def insert(arr: Operand, obj: Any, values: Operand, axis: int | None = None) -> Expression:  # noqa: ANN401  (what NumPy takes)
    """An array with values before one of its entries."""
    node = gw.ravel(arr) if axis is None else as_expression(arr)
    own, place = one_axis(node, axis or 0), whole(obj)
    size = node.shape[own]
    if place is None or not -size <= place <= size:
        raise InvalidGraphError(f"np.insert into {node!r} at {obj!r:.64}; give one place, an integer within the axis")
    new = as_expression(values)
    rest = [n for a, n in enumerate(node.shape) if a != own]
    if new.ndim < node.ndim or axis is None:
        # Values of fewer axes are one entry, those of a vector are entries.
        count = new.size if node.ndim == 1 and new.shape else 1
        new = gw.moveaxis(gw.broadcast_to(gw.ravel(new) if node.ndim == 1 else new, (count, *rest)), 0, own)
    before, behind = gw.split(node, [place % size if place < 0 else place], own)
    return gw.concatenate([before, new, behind], own)


def resize(a: Operand, new_shape: int | Sequence[int]) -> Expression:
    """The elements, again and again, in another shape."""
    flat, sizes = gw.ravel(a), integers(new_shape)
    count = 0 if sizes is None else prod(map(int, sizes))
    if sizes is None or min(sizes, default=0) < 0 or (not flat.size and count):
        raise InvalidGraphError(f"np.resize of {flat!r} to {new_shape!r:.64}; give a shape, and elements to fill it")
    return gw.reshape(gw.take(flat, np.arange(count) % max(flat.size, 1)), sizes)


def vander(x: Operand, N: int | None = None, increasing: bool = False) -> Expression:  # noqa: N803  (NumPy's name)
    """The powers of a vector as columns, the highest first unless they increase."""
    node = as_expression(x)
    count = node.size if N is None else whole(N)
    if node.ndim != 1 or count is None or count < 0:
        raise InvalidGraphError(f"np.vander of {node!r} with N={N!r:.64}; expected a vector and an integer, at least 0")
    powers = np.arange(count) if increasing else np.arange(count)[::-1]
    return gw.power(gw.expand_dims(node, 1), powers)


def diagflat(v: Operand, k: int = 0) -> Expression:
    """The matrix with all elements as its diagonal."""
    return diag(gw.ravel(v), k)


def compress(condition: Any, a: Operand, axis: int | None = None) -> Expression:  # noqa: ANN401  (what NumPy takes)
    """Entries where a constant mask holds."""
    if isinstance(condition, Expression):
        raise InvalidGraphError(
            "np.compress with an expression: how many entries there are depends on values; "
            "write masks, such as x > 0, and reduce gw.where(mask, x, 0)"
        )
    node = gw.ravel(a) if axis is None else as_expression(a)
    return gw.take(node, np.flatnonzero(condition), one_axis(node, axis or 0))


def apply_along_axis(func1d: Callable[..., Any], axis: int, arr: Operand, *args: Any, **kwargs: Any) -> Expression:
    """A function of vectors on each one along an axis."""
    node = as_expression(arr)
    own = one_axis(node, axis)
    rows = gw.moveaxis(node, own, -1)
    others = rows.shape[:-1]
    if not prod(others):
        raise InvalidGraphError(f"np.apply_along_axis of {node!r} along axis {own}, which has no vectors there")
    flat = gw.reshape(rows, (prod(others), rows.shape[-1]))
    results = [as_expression(func1d(row, *args, **kwargs)) for row in flat]
    found = gw.stack(results)
    rank = found.ndim - 1
    whole_ = gw.reshape(found, (*others, *found.shape[1:]))
    back = tuple(range(len(others), len(others) + rank))
    return gw.moveaxis(whole_, back, tuple(range(own, own + rank)))


def sliding_windows(x: Operand, window_shape: int | Sequence[int], axis: Any = None) -> Expression:  # noqa: ANN401  (an axis, or several)
    """All windows along axes, as new axes at the end."""
    node, sizes = as_expression(x), integers(window_shape)
    axes = list(range(node.ndim)) if axis is None else [one_axis(node, one) for one in integers(axis) or [axis]]
    if (
        sizes is None
        or len(sizes) != len(axes)
        or any(not 0 < n <= node.shape[a] for n, a in zip(sizes, axes, strict=True))
    ):
        raise InvalidGraphError(
            f"windows {window_shape!r:.64} of {node!r}; give a size within it for each of {len(axes)} axes"
        )
    for size, own in zip(sizes, axes, strict=True):
        starts = np.arange(node.shape[own] - size + 1)
        node = gw.moveaxis(gw.take(node, starts[:, None] + np.arange(size), own), own + 1, -1)
    return node
