"""JAX's gather, scatter and slices at computed places, with places that are known, or with row indices."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from numpy.typing import NDArray

from gradwire._expressions import functions as gw
from gradwire._expressions.expression import Expression, as_expression
from gradwire_imports.values import Indices, Unsupported, Value, is_known, moved, places_of

_DROP = jax.lax.GatherScatterMode.FILL_OR_DROP


def same_mode_filled(eqn: Any) -> float:
    """The number that stands where a place is outside."""
    fill = eqn.params.get("fill_value")
    return float("nan") if fill is None else float(fill)


def gather(eqn: Any, operand: Value, indices: Value) -> Value:
    """Slices of a tensor, by the places where they begin."""
    if isinstance(indices, Indices):
        return _rows(eqn, operand, indices)
    if not is_known(indices):
        raise Unsupported("at places that are computed from arguments")
    params = {**eqn.params, "fill_value": 0}
    places = np.asarray(eqn.primitive.bind(places_of(operand.shape) + 1, indices, **params)) - 1
    return moved(operand, places, same_mode_filled(eqn))


def _rows(eqn: Any, operand: Value, indices: Indices) -> Value:
    numbers, shape = eqn.params["dimension_numbers"], eqn.outvars[0].aval.shape
    node = as_expression(operand)
    axes = tuple(numbers.start_index_map)
    sizes = [1 if axis in axes else size for axis, size in enumerate(node.shape)]
    along = axes[0] if len(axes) == 1 else -1
    if along < 0 or indices.shape[-1] != 1:
        raise Unsupported("by row indices along several axes")
    if numbers.operand_batching_dims:
        return gw.reshape(_one_of_each(eqn, node, indices, along), shape)
    if list(eqn.params["slice_sizes"]) != sizes:
        raise Unsupported("of slices longer than one row")
    found = gw.take(node, indices.rows(node.shape[along]), along)
    own = list(range(along, along + indices.node.ndim))
    rest = [axis for axis in range(found.ndim) if axis not in own]
    found = gw.reshape(gw.transpose(found, (*own, *rest)), (*indices.shape[:-1], *(found.shape[axis] for axis in rest)))
    batch = len(indices.shape) - 1
    if numbers.collapsed_slice_dims == ():  # the axis stays, with size 1
        found = gw.expand_dims(found, batch + along)
    offsets = list(numbers.offset_dims)
    order = iter(range(batch)), iter(range(batch, found.ndim))
    return gw.transpose(found, [next(order[axis in offsets]) for axis in range(found.ndim)])


def _one_of_each(eqn: Any, node: Expression, indices: Indices, along: int) -> Expression:
    """One entry of each row, as a sum over the axis with a mask."""
    batched = list(eqn.params["dimension_numbers"].operand_batching_dims)
    if [*batched, along] != list(range(node.ndim)):
        raise Unsupported("by row indices along inner axes")
    rows, size = node.shape[:-1], node.shape[-1]
    if indices.node.size != np.prod(rows, dtype=int):
        raise Unsupported("of several entries of each row")
    mask = gw.reshape(gw.take(np.eye(size), indices.rows(size)), node.shape)
    return gw.sum(gw.where(mask, node, 0), -1)


def dynamic_slice(eqn: Any, operand: Value, *starts: Value) -> Value:
    """A part of a tensor from a place that is known, or one row by its index."""
    sizes = eqn.params["slice_sizes"]
    moving = [axis for axis, start in enumerate(starts) if isinstance(start, Indices)]
    if len(moving) == 1 and sizes[moving[0]] == 1:
        along = moving[0]
        rows = starts[along].rows(operand.shape[along])
        operand = gw.expand_dims(gw.take(operand, rows, along), along)
        starts = tuple(np.int64(0) if axis == along else start for axis, start in enumerate(starts))
    if not all(map(is_known, starts)):
        raise Unsupported("at a place that is computed from arguments")
    first = [int(np.clip(start, 0, size - own)) for start, size, own in zip(starts, operand.shape, sizes, strict=True)]
    return as_expression(operand)[tuple(slice(start, start + own) for start, own in zip(first, sizes, strict=True))]


def dynamic_update_slice(_: Any, operand: Value, update: Value, *starts: Value) -> Value:
    """A tensor with a part replaced, from a place that is known."""
    if not all(map(is_known, starts)):
        raise Unsupported("at a place that is computed from arguments")
    first = [
        int(np.clip(start, 0, size - own)) for start, size, own in zip(starts, operand.shape, update.shape, strict=True)
    ]
    spans = tuple(slice(start, start + own) for start, own in zip(first, update.shape, strict=True))
    sources = np.full(operand.shape, -1)
    sources[spans] = places_of(update.shape)
    return _replaced(operand, update, sources)


def _replaced(operand: Value, update: Value, sources: NDArray[Any]) -> Expression:
    """A tensor with elements of another one where that has a place for them."""
    mask = sources >= 0
    found = moved(as_expression(update), np.where(mask, sources, 0)) if np.size(update) or mask.any() else operand
    return found if mask.all() else gw.where(mask, found, operand)


def _targets(eqn: Any, operand: Value, indices: Value, updates: Value) -> NDArray[Any]:
    """The place in the operand of each element of the updates, -1 if it is dropped."""
    if not is_known(indices):
        raise Unsupported("at places that are computed from arguments")
    own = eqn.params["dimension_numbers"]
    numbers = jax.lax.GatherDimensionNumbers(
        offset_dims=own.update_window_dims,
        collapsed_slice_dims=own.inserted_window_dims,
        start_index_map=own.scatter_dims_to_operand_dims,
        operand_batching_dims=own.operand_batching_dims,
        start_indices_batching_dims=own.scatter_indices_batching_dims,
    )
    window = iter(own.update_window_dims)
    apart = {*own.inserted_window_dims, *own.operand_batching_dims}
    sizes = tuple(1 if axis in apart else updates.shape[next(window)] for axis in range(len(operand.shape)))
    mode = eqn.params["mode"]
    found = jax.lax.gather(
        places_of(operand.shape) + 1,
        indices,
        numbers,
        sizes,
        mode=_DROP if mode is None else mode,
        fill_value=0,
    )
    return np.asarray(found).reshape(updates.shape) - 1


def scatter_add(eqn: Any, operand: Value, indices: Value, updates: Value) -> Value:
    """A tensor with others added to some of its elements."""
    if isinstance(indices, Indices):
        return _add_rows(eqn, operand, indices, updates)
    targets = _targets(eqn, operand, indices, updates).ravel()
    kept = np.flatnonzero(targets >= 0)
    if not len(kept):
        return as_expression(operand)
    flat = gw.ravel(updates) if len(kept) == len(targets) else gw.take(gw.ravel(updates), kept)
    added = gw.scatter_add(flat, targets[kept], int(np.prod(operand.shape, dtype=int)))
    return gw.add(operand, gw.reshape(added, operand.shape))


def _add_rows(eqn: Any, operand: Value, indices: Indices, updates: Value) -> Value:
    numbers = eqn.params["dimension_numbers"]
    batch = len(indices.shape) - 1
    if numbers.inserted_window_dims != (0,) or numbers.update_window_dims != tuple(range(batch, len(updates.shape))):
        raise Unsupported("by row indices along inner axes")
    rows = gw.reshape(updates, (*indices.node.shape, *updates.shape[batch:]))
    return gw.add(operand, gw.scatter_add(rows, indices.rows(operand.shape[0]), operand.shape[0]))


def scatter(eqn: Any, operand: Value, indices: Value, updates: Value) -> Value:
    """A tensor with some of its elements replaced, the last one of several for a place."""
    targets = _targets(eqn, operand, indices, updates).ravel()
    sources = np.full(int(np.prod(operand.shape, dtype=int)) + 1, -1)
    sources[targets] = np.arange(len(targets))
    return _replaced(operand, updates, sources[:-1].reshape(operand.shape))


def scatter_mul(eqn: Any, operand: Value, indices: Value, updates: Value) -> Value:
    """A tensor with some of its elements multiplied, each once."""
    targets = _targets(eqn, operand, indices, updates).ravel()
    kept = targets[targets >= 0]
    if len(np.unique(kept)) < len(kept):
        raise Unsupported("of one place several times")
    sources = np.full(int(np.prod(operand.shape, dtype=int)) + 1, -1)
    sources[targets] = np.arange(len(targets))
    return gw.mul(operand, moved(as_expression(updates), sources[:-1].reshape(operand.shape), 1.0))


RULES: dict[str, Callable[..., Value]] = {
    "gather": gather,
    "dynamic_slice": dynamic_slice,
    "dynamic_update_slice": dynamic_update_slice,
    "scatter": scatter,
    "scatter-add": scatter_add,
    "scatter_add": scatter_add,
    "scatter-mul": scatter_mul,
    "scatter_mul": scatter_mul,
}
