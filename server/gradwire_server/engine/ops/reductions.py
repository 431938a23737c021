"""Ops that reduce axes of one example."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import partial

import numpy as np

from gradwire_server.engine.graph import Array, Shape, Ties
from gradwire_server.engine.ops.axes import normal_axes
from gradwire_server.engine.ops.op import Attributes, Op, OperandError, Spec, Step, scratch_arrays
from gradwire_server.engine.shapes import sum_over, text


def _infer(specs: Sequence[Spec], attributes: Attributes) -> tuple[Shape, Attributes]:
    shape = specs[0].shape
    axes = tuple(sorted(normal_axes(attributes["axes"], shape))) or tuple(range(len(shape)))
    kept = tuple(1 if axis in axes else length for axis, length in enumerate(shape))
    keepdims = bool(attributes["keepdims"])
    result = kept if keepdims else tuple(length for axis, length in enumerate(shape) if axis not in axes)
    return result, {"axes": axes, "keepdims": keepdims, "kept": kept}


def _infer_nonempty(specs: Sequence[Spec], attributes: Attributes) -> tuple[Shape, Attributes]:
    result, normal = _infer(specs, attributes)
    shape = specs[0].shape
    for axis in normal["axes"]:
        if shape[axis] == 0:
            raise OperandError(
                f"axis {axis} of shape {text(shape)} is empty, and nothing has no maximum; reduce another axis",
                "axes",
            )
    return result, normal


def _expanded(step: Step, reduced: Array) -> Array:
    """The result with the reduced axes back, at size 1."""
    return reduced.reshape(*step.attributes["kept"], reduced.shape[-1])


def _sum(step: Step, operands: Sequence[Array], out: Array) -> None:
    sum_over(operands[0], step.attributes["axes"], _expanded(step, out))


def _sum_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Sequence[Array | None]
) -> Iterable[Array]:
    return [np.broadcast_to(_expanded(step, adjoint), (*operands[0].shape[:-1], adjoint.shape[-1]))]


def _reduce_max(step: Step, operands: Sequence[Array], out: Array) -> None:
    np.maximum.reduce(operands[0], axis=step.attributes["axes"], keepdims=step.attributes["keepdims"], out=out)


def _reduce_max_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Sequence[Array | None]
) -> Iterable[Array]:
    expanded = _expanded(step, adjoint)
    winners = operands[0] == _expanded(step, out)
    tied = np.add.reduce(winners, axis=step.attributes["axes"], keepdims=True, dtype=np.int64)
    # By selection, not multiplication: a loser gets exactly 0 whatever the adjoint is.
    zero = adjoint.dtype.type(0)
    if step.ties is Ties.ZERO:
        return [np.where(winners & (tied == 1), expanded, zero)]
    return [np.where(winners, expanded / np.maximum(tied, 1).astype(adjoint.dtype), zero)]


_entry = partial(Op, min_operands=1, max_operands=1, elementwise=False)

REDUCTIONS = (
    _entry(
        name="sum",
        summary="sum of a over axes",
        derivative="1 for each element",
        infer=_infer,
        forward=_sum,
        vjp=_sum_vjp,
    ),
    _entry(
        name="reduce_max",
        summary="maximum of a over axes",
        derivative="1 for the largest element; at a tie 0, or equal shares",
        infer=_infer_nonempty,
        forward=_reduce_max,
        vjp=_reduce_max_vjp,
        scratch=scratch_arrays(6),  # Counts of ties are in int64.
    ),
)
