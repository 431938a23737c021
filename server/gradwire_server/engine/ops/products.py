"""The matrix product, over examples in one BLAS call wherever one operand is shared by all of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import ceil

import numpy as np

from gradwire_server.engine.graph import Array, Shape
from gradwire_server.engine.kernels.outer import outer
from gradwire_server.engine.ops.op import Attributes, Contribution, Op, OperandError, Spec, Step
from gradwire_server.engine.shapes import broadcast, lanes_first, lanes_last, size, text

VECTOR, MATRIX = 1, 2

AT_ONCE = 1 << 30
"""Multiplications of a product that are left to one call of BLAS, about a twentieth of a second."""


def _infer(specs: Sequence[Spec], attributes: Attributes) -> tuple[Shape, Attributes]:
    a, b = (spec.shape for spec in specs)
    for slot, shape in enumerate((a, b)):
        if not shape:
            raise OperandError("the operand is a scalar; use mul to scale", f"operands[{slot}]")
    inner = b[0] if len(b) == VECTOR else b[-2]
    if a[-1] != inner:
        raise OperandError(
            f"shapes {text(a)} and {text(b)} do not match: {a[-1]} columns against {inner} rows", "operands"
        )
    stack = broadcast([a[:-2], b[:-2]])
    if stack is None:
        raise OperandError(f"the stacks of shapes {text(a)} and {text(b)} do not broadcast", "operands")
    return stack + (a[-2:-1] if len(a) >= MATRIX else ()) + (b[-1:] if len(b) >= MATRIX else ()), attributes


def _as_matrices(a: Array, b: Array) -> tuple[Array, Array]:
    """Vectors as a row on the left, as a column on the right; both of one rank, so that lanes may go first."""
    a = a[np.newaxis] if a.ndim == VECTOR + 1 else a
    b = b[:, np.newaxis] if b.ndim == VECTOR + 1 else b
    rank = max(a.ndim, b.ndim)
    return a.reshape((1,) * (rank - a.ndim) + a.shape), b.reshape((1,) * (rank - b.ndim) + b.shape)


def _product(step: Step, a: Array, b: Array, out: Array) -> None:
    """(*, m, k, lanes) times (*, k, n, lanes), into (*, m, n, lanes), with checkpoints."""
    if out.size * a.shape[-2] <= AT_ONCE:
        _product_at_once(a, b, out)
        return
    axis = int(np.argmax(out.shape[:-2]))
    length = out.shape[axis]
    parts = min(length, ceil(out.size * a.shape[-2] / AT_ONCE))
    for part in range(parts):
        step.checkpoint()
        own = (slice(None),) * axis + (slice(length * part // parts, length * (part + 1) // parts),)
        # Of rows the right factor has none; of stacks each factor has all, or one for all.
        left = a[own] if a.shape[axis] > 1 else a
        right = b[own] if b.shape[axis] > 1 and axis < out.ndim - 3 else b
        _product_at_once(left, right, out[own])


def _product_at_once(a: Array, b: Array, out: Array) -> None:
    if a.shape[-2] == 1:
        # Nothing is summed; BLAS would take three times as long.
        np.multiply(a, b, out=out)
    elif a.shape[-1] == 1:
        np.matmul(a[..., 0], _flat(b), out=_flat(out))
    elif b.shape[-1] == 1:
        np.matmul(b[..., 0].swapaxes(-1, -2)[..., np.newaxis, :, :], a, out=out)
    elif a.shape[-3] == 1 and b.shape[-2] == 1:
        np.add.reduce(a[..., 0, :, :] * b[..., :, 0, :], axis=-2, out=out[..., 0, 0, :])
    else:
        out[...] = lanes_last(np.matmul(lanes_first(a), lanes_first(b)))


def _flat(a: Array) -> Array:
    """The last axis and that of lanes as one."""
    return a.reshape(*a.shape[:-2], a.shape[-2] * a.shape[-1])


def _product_over_lanes(a: Array, b: Array, out: Array) -> None:
    """(*, m, k, lanes) times (*, k, n, lanes), summed over the lanes: one product with k x lanes inside."""
    right = b.swapaxes(-1, -2)
    right = right.reshape(*right.shape[:-3], right.shape[-3] * right.shape[-2], right.shape[-1])
    np.matmul(_flat(a), right, out=out[..., 0])


def _transposed(a: Array) -> Array:
    return a.swapaxes(-3, -2)


def _matmul(step: Step, operands: Sequence[Array], out: Array) -> None:
    a, b = _as_matrices(*operands)
    stack = broadcast([a.shape[:-3], b.shape[:-3]]) or ()
    _product(step, a, b, out.reshape(*stack, a.shape[-3], b.shape[-2], out.shape[-1]))


def _matmul_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Sequence[Array | None]
) -> Iterator[Contribution]:
    a, b = _as_matrices(*operands)
    first, second = operands
    if second.ndim == VECTOR + 1:
        adjoint = adjoint[..., np.newaxis, :]
    if first.ndim == VECTOR + 1:
        adjoint = adjoint[..., np.newaxis, :, :]
    if targets[0] is None:
        yield None
    else:
        target = targets[0][np.newaxis] if first.ndim == VECTOR + 1 else targets[0]
        grad = _gradient(step, adjoint, _transposed(b), target, written=0 in step.written)
        yield grad[..., 0, :, :] if not isinstance(grad, bool) and first.ndim == VECTOR + 1 else grad
    if targets[1] is None:
        yield None
    else:
        target = targets[1][:, np.newaxis] if second.ndim == VECTOR + 1 else targets[1]
        grad = _gradient(step, _transposed(a), adjoint, target, written=1 in step.written)
        yield grad[..., 0, :] if not isinstance(grad, bool) and second.ndim == VECTOR + 1 else grad


def _gradient(step: Step, a: Array, b: Array, target: Array, *, written: bool) -> Array | bool:
    """The product, already summed over the lanes where the target has none and both factors do."""
    stack = broadcast([a.shape[:-3], b.shape[:-3]]) or ()
    lanes = max(a.shape[-1], b.shape[-1])
    summed = target.shape[-1] == 1 and a.shape[-1] == b.shape[-1] != 1
    shape = (*stack, a.shape[-3], b.shape[-2], 1 if summed else lanes)
    written = written and target.shape == shape
    if written and a.shape[-2] == 1 and not summed:
        rows = lanes_first(target)
        if not stack and rows.flags.c_contiguous:
            left, right = (np.broadcast_to(x, (*x.shape[:-1], lanes)) for x in (a[:, 0], b[0]))
            return bool(outer(lanes_first(left).copy(), lanes_first(right).copy(), rows))
        written = False
    product = target if written else np.empty(shape, a.dtype)
    if summed:
        _product_over_lanes(a, b, product)
    else:
        _product(step, a, b, product)
    # What is kept with other gradients is looked at together with them.
    return True if written else product


def _work(step: Step, shapes: Sequence[Shape], out: Shape) -> int:
    # A multiply-add inside BLAS costs about a tenth of an elementary step of its own; the larger operand is usually a
    # parameter, which all lanes share, and each lane reads the other one.
    return size(out) * (1 + shapes[0][-1] // 10) + min(size(shapes[0]), size(shapes[1]))


def _scratch(step: Step, shapes: Sequence[Shape], out: Shape, own: Sequence[bool]) -> int:
    # A gradient is made for each matrix of the broadcast stacks before it is summed over them.
    a, b = shapes
    rows = a[-2] if len(a) >= MATRIX else 1
    columns = b[-1] if len(b) >= MATRIX else 1
    stack = broadcast([a[:-2], b[:-2]]) or ()
    unsummed = size(stack) * a[-1] * (rows * own[0] + columns * own[1])
    return unsummed + 3 * max(size(out), size(a) * own[0], size(b) * own[1])


def _direct(shapes: Sequence[Shape], slot: int) -> bool:
    """The gradient of a matrix that is multiplied with a vector is the outer product of two vectors."""
    return len(shapes[slot]) == MATRIX and len(shapes[1 - slot]) == VECTOR


PRODUCTS = (
    Op(
        name="matmul",
        summary="matrix product A B",
        derivative="G B^T, A^T G for the gradient G of the product",
        min_operands=2,
        max_operands=2,
        infer=_infer,
        forward=_matmul,
        vjp=_matmul_vjp,
        elementwise=False,
        strided=True,
        telling=True,
        work=_work,
        scratch=_scratch,
        direct=_direct,
    ),
)
