"""Ops that move elements: reshape, transpose, take."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from gradwire_server.engine.graph import Array, Shape
from gradwire_server.engine.ops.axes import normal_axes
from gradwire_server.engine.ops.op import Attributes, IndexRangeError, Op, OperandError, Spec, Step
from gradwire_server.engine.shapes import accumulator, first_true, lanes_first, problem, size, text
from gradwire_server.limits import MAX_RANK

Targets = Sequence[Array | None]


def _reshape_infer(specs: Sequence[Spec], attributes: Attributes) -> tuple[Shape, Attributes]:
    have = specs[0].shape
    wanted = list(attributes["shape"])
    open_axes = [axis for axis, length in enumerate(wanted) if length == -1]
    for axis, length in enumerate(wanted):
        if length < -1:
            raise OperandError(f"size {length} is negative; only -1 (worked out) may be", f"shape[{axis}]")
    if len(open_axes) > 1:
        raise OperandError(f"shape {text(wanted)} has -1 more than once", f"shape[{open_axes[1]}]")
    wrong = problem([1 if length == -1 else length for length in wanted], MAX_RANK)
    if wrong is not None:
        raise OperandError(f"the result {wrong}", "shape")
    if open_axes:
        known = size([length for length in wanted if length != -1])
        if known == 0 or size(have) % known:
            raise OperandError(f"shape {text(have)} with {size(have)} elements does not fit {text(wanted)}", "shape")
        wanted[open_axes[0]] = size(have) // known
    if size(wanted) != size(have):
        raise OperandError(
            f"shape {text(have)} has {size(have)} elements, shape {text(wanted)} has {size(wanted)}", "shape"
        )
    return tuple(wanted), {"shape": tuple(wanted)}


def _reshape(step: Step, operands: Sequence[Array], out: Array) -> None:
    out[...] = operands[0].reshape(out.shape)


def _reshape_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets
) -> Iterable[Array]:
    return [adjoint.reshape(*operands[0].shape[:-1], adjoint.shape[-1])]


def _transpose_infer(specs: Sequence[Spec], attributes: Attributes) -> tuple[Shape, Attributes]:
    shape = specs[0].shape
    axes = normal_axes(attributes["axes"], shape) or tuple(reversed(range(len(shape))))
    if len(axes) != len(shape):
        raise OperandError(f"{len(axes)} axes are given for shape {text(shape)} with {len(shape)}; give all", "axes")
    return tuple(shape[axis] for axis in axes), {"axes": axes}


def _transpose(step: Step, operands: Sequence[Array], out: Array) -> None:
    axes = step.attributes["axes"]
    out[...] = operands[0].transpose(*axes, len(axes))


def _transpose_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets
) -> Iterable[Array]:
    axes = step.attributes["axes"]
    return [adjoint.transpose(*np.argsort(axes), len(axes))]


def _check_range(indices: Array, rows: int) -> None:
    """``indices``: (*shape, lanes)."""
    # The lowest example first, then the first position in it.
    wrong = first_true(lanes_first((indices < -rows) | (indices >= rows)))
    if wrong is not None:
        lane, *position = wrong
        raise IndexRangeError(tuple(position), lane, int(indices[(*position, lane)]), rows)


def _take_infer(specs: Sequence[Spec], attributes: Attributes) -> tuple[Shape, Attributes]:
    rows, indices = specs
    if not rows.shape:
        raise OperandError("the first operand is a scalar and has no rows", "operands[0]")
    if indices.constant is not None:
        try:
            _check_range(indices.constant[..., np.newaxis], rows.shape[0])
        except IndexRangeError as error:
            raise OperandError(
                f"index {error.index} at position {text(error.position)} is out of range for {error.rows} rows",
                "operands[1]",
            ) from None
    return indices.shape + rows.shape[1:], {}


def _flat_rows(a: Array) -> Array:
    """(rows, *rest, lanes) as (rows, elements, lanes): NumPy indexes few axes faster, and not as many as 33 at all."""
    return a.reshape(a.shape[0], size(a.shape[1:-1]), a.shape[-1])


def _take(step: Step, operands: Sequence[Array], out: Array) -> None:
    a, indices = operands
    _check_range(indices, a.shape[0])
    if indices.size == 0:
        return
    if indices.shape[-1] == 1:
        out[...] = a.take(indices[..., 0], axis=0)
        return
    flat, lanes = _flat_rows(a), indices.shape[-1]
    every_lane = np.broadcast_to(flat, (*flat.shape[:-1], lanes))
    out[...] = every_lane[_places(indices, indices.size // lanes, flat.shape[1])].reshape(out.shape)


def _places(indices: Array, count: int, elements: int) -> tuple[Array, Array, Array]:
    """Where in (rows, elements, lanes) the rows are that each lane takes."""
    lanes = indices.shape[-1]
    return indices.reshape(count, 1, lanes), np.arange(elements)[:, np.newaxis], np.arange(lanes)


def _take_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets
) -> Iterable[Array | None]:
    a, indices = operands
    rows, elements, lanes = a.shape[0], size(a.shape[1:-1]), adjoint.shape[-1]
    count = size(indices.shape[:-1])
    wide = accumulator(adjoint.dtype, indices.size)
    moved = adjoint.reshape(count, elements, lanes)
    target = targets[0]
    if indices.shape[-1] == 1:
        grad = np.zeros((rows, elements * lanes), wide)
        _add_rows(grad, indices.reshape(count), moved.reshape(count, elements * lanes))
    elif target is not None and target.shape[-1] == 1:
        # All examples add to the same rows.
        grad = np.zeros((rows, elements), wide)
        _add_rows(grad, indices.reshape(count * lanes), moved.swapaxes(1, 2).reshape(count * lanes, elements))
        lanes = 1
    else:
        grad = np.zeros((rows, elements, lanes), adjoint.dtype if count == 1 else wide)
        places = _places(indices, count, elements)
        if count == 1:
            grad[places] = moved + 0
        else:
            np.add.at(grad, places, moved)
    return [grad.reshape(*a.shape[:-1], lanes).astype(adjoint.dtype, copy=False), None]


def _add_rows(grad: Array, indices: Array, moved: Array) -> None:
    """Add each row of ``moved`` to the row of ``grad`` that it was taken from, in their order."""
    if grad.shape[1] == 1:
        grad, moved = grad[:, 0], moved[:, 0]  # NumPy has a fast loop for a single axis.
    np.add.at(grad, indices, moved)


_entry = partial(Op, min_operands=1, max_operands=1, elementwise=False, moves=True)

ARRANGEMENT = (
    _entry(
        name="reshape",
        summary="the elements of a in another shape",
        derivative="1 for each element",
        infer=_reshape_infer,
        forward=_reshape,
        vjp=_reshape_vjp,
    ),
    _entry(
        name="transpose",
        summary="a with its axes permuted",
        derivative="1 for each element",
        infer=_transpose_infer,
        forward=_transpose,
        vjp=_transpose_vjp,
    ),
    _entry(
        name="take",
        summary="rows of a by integer index",
        derivative="1 for each element taken; repeated rows add up",
        min_operands=2,
        max_operands=2,
        infer=_take_infer,
        forward=_take,
        vjp=_take_vjp,
        index_operands=frozenset({1}),
    ),
)
