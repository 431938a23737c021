"""Ops that work element by element, with NumPy's broadcasting."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from math import isfinite, isqrt

import numpy as np

from gradwire_server.engine.graph import Array, Shape, Ties
from gradwire_server.engine.kernels.opcodes import Opcode
from gradwire_server.engine.ops.op import Attributes, Op, OperandError, Spec, Step, scratch_arrays
from gradwire_server.engine.shapes import broadcast, size, text

Targets = Sequence[Array | None]

PAIR = 2

SQUARE, RECIPROCAL, ROOT = 2, -1, 0.5
"""Exponents that NumPy has a faster and more exact function for."""


def _infer(specs: Sequence[Spec], attributes: Attributes) -> tuple[Shape, Attributes]:
    shapes = [spec.shape for spec in specs]
    result = broadcast(shapes)
    if result is None:
        found = " and ".join(map(text, shapes[:4])) + (" ..." if len(shapes) > 4 else "")
        raise OperandError(f"operands of shapes {found} do not broadcast", "operands")
    return result, attributes


def _always(opcode: Opcode) -> Callable[[Step, int], tuple[Opcode, float]]:
    return lambda step, operands: (opcode, 1.0)


_entry = partial(Op, infer=_infer, elementwise=True)
_unary = partial(_entry, min_operands=1, max_operands=1)
_nary = partial(_entry, min_operands=2, max_operands=None)


def _left_to_right(ufunc: np.ufunc, step: Step, operands: Sequence[Array], out: Array) -> None:
    ufunc(operands[0], operands[1], out=out)
    for operand in step.over(operands[2:], out):
        ufunc(out, operand, out=out)


def _add(step: Step, operands: Sequence[Array], out: Array) -> None:
    _left_to_right(np.add, step, operands, out)


def _add_vjp(step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets) -> Iterable[Array]:
    return [adjoint] * len(operands)


def _mul(step: Step, operands: Sequence[Array], out: Array) -> None:
    _left_to_right(np.multiply, step, operands, out)


def _mul_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets
) -> Iterator[Array | None]:
    if len(operands) == PAIR:
        yield adjoint * operands[1] if targets[0] is not None else None
        yield adjoint * operands[0] if targets[1] is not None else None
        return
    # The product of the others without dividing by the operand, which may be zero: what stands to its left
    # times what stands to its right.
    right = _products_to_the_end(step, operands[1:], out)
    yield adjoint * next(right)
    for before in accumulate(step.over(operands[:-1], out), np.multiply):
        after = next(right, None)
        yield adjoint * (before if after is None else before * after)


def _stride(count: int) -> int:
    return max(32, isqrt(count) + 1)


def _products_to_the_end(step: Step, factors: Sequence[Array], out: Array) -> Iterator[Array]:
    """The product of all factors, of those from the second on, and so on, each made from right to left.

    Of n products only about the root of n are kept at a time; the others are made twice.
    """
    count, stride = len(factors), _stride(len(factors))
    kept: dict[int, Array] = {}
    if stride < count:
        for i, product in enumerate(accumulate(step.over(reversed(factors), out), np.multiply), start=1):
            if (count - i) % stride == 0:
                kept[count - i] = product
    for start in range(0, count, stride):
        after = kept.pop(start + stride, None)
        run = accumulate(reversed(factors[start : start + stride]), np.multiply, initial=after)
        products = list(run)[0 if after is None else 1 :]
        while products:
            yield products.pop()


def _mul_scratch(step: Step, shapes: Sequence[Shape], out: Shape, own: Sequence[bool]) -> int:
    # Those products of what stands to the right that are kept, and a few more to make a gradient of one.
    stride = _stride(len(shapes))
    return (len(shapes) // stride + min(stride, len(shapes)) + 4) * size(out)


def _max(step: Step, operands: Sequence[Array], out: Array) -> None:
    _left_to_right(np.maximum, step, operands, out)


def _max_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets
) -> Iterator[Array | None]:
    # By selection, not multiplication: a loser gets exactly 0 whatever the adjoint is.
    if len(operands) == PAIR and step.ties is Ties.ZERO:
        a, b = operands
        yield np.where(a > b, adjoint, 0) if targets[0] is not None else None
        yield np.where(b > a, adjoint, 0) if targets[1] is not None else None
        return
    tied = sum((operand == out).astype(np.int32) for operand in step.over(operands, out))
    share = np.where(tied == 1, adjoint, 0) if step.ties is Ties.ZERO else adjoint / np.maximum(tied, 1)
    share = share.astype(adjoint.dtype, copy=False)
    for operand, target in zip(operands, targets, strict=True):
        yield np.where(operand == out, share, adjoint.dtype.type(0)) if target is not None else None


def _max_kernel(step: Step, operands: int) -> tuple[Opcode, float] | None:
    if step.ties is Ties.ZERO:
        return Opcode.MAX, 1.0
    # Equal shares of three are not those of two and one.
    return (Opcode.MAX_SPLIT, 1.0) if operands == PAIR else None


def sigmoid(a: Array) -> Array:
    """The logistic function of ``a``, without overflow in either tail."""
    z: Array = np.exp(-np.abs(a))
    s: Array = np.where(a >= 0, a.dtype.type(1), z) / (1 + z)
    return s


def _sigmoid(step: Step, operands: Sequence[Array], out: Array) -> None:
    out[...] = sigmoid(operands[0])


def _sigmoid_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets
) -> Iterable[Array]:
    return [adjoint * (out * (1 - out))]


def _exp(step: Step, operands: Sequence[Array], out: Array) -> None:
    np.exp(operands[0], out=out)


def _exp_vjp(step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets) -> Iterable[Array]:
    return [adjoint * out]


def _log(step: Step, operands: Sequence[Array], out: Array) -> None:
    np.log(operands[0], out=out)


def _log_vjp(step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets) -> Iterable[Array]:
    return [adjoint / operands[0]]


def _tanh(step: Step, operands: Sequence[Array], out: Array) -> None:
    np.tanh(operands[0], out=out)


def _tanh_vjp(step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets) -> Iterable[Array]:
    # (1 - t)(1 + t) keeps the digits that 1 - t^2 loses where |t| is near 1.
    return [adjoint * ((1 - out) * (1 + out))]


def _softplus(step: Step, operands: Sequence[Array], out: Array) -> None:
    a = operands[0]
    np.add(np.maximum(a, 0), np.log1p(np.exp(-np.abs(a))), out=out)


def _softplus_vjp(
    step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets
) -> Iterable[Array]:
    return [adjoint * sigmoid(operands[0])]


def _power_infer(specs: Sequence[Spec], attributes: Attributes) -> tuple[Shape, Attributes]:
    exponent = attributes.get("exponent")
    if exponent is None:
        raise OperandError("the exponent is not set; give a number", "exponent")
    if not isfinite(exponent):
        raise OperandError(f"the exponent is {exponent}; it must be finite", "exponent")
    return specs[0].shape, {"exponent": float(exponent)}


def _raised(a: Array, exponent: np.floating) -> Array:
    if exponent == 0:
        return np.ones_like(a)
    if exponent == 1:
        return a
    if exponent == SQUARE:
        return np.square(a)
    if exponent == RECIPROCAL:
        return np.reciprocal(a)
    if exponent == ROOT:
        return np.sqrt(a)
    power: Array = np.power(a, exponent)
    return power


def _exponent(step: Step, out: Array) -> np.floating:
    """The exponent in the dtype of a request, in which one is taken from it, too."""
    exponent: np.floating = out.dtype.type(step.attributes["exponent"])
    return exponent


def _power(step: Step, operands: Sequence[Array], out: Array) -> None:
    out[...] = _raised(operands[0], _exponent(step, out))


def _power_vjp(step: Step, adjoint: Array, operands: Sequence[Array], out: Array, targets: Targets) -> Iterable[Array]:
    exponent = _exponent(step, out)
    if exponent == 0:
        return [np.zeros_like(adjoint)]
    if exponent == 1:
        return [adjoint]
    if exponent == RECIPROCAL:
        # 1 / a^2 may be beyond the range of floats where the product is not.
        return [-(adjoint * out) * out]
    return [adjoint * (exponent * _raised(operands[0], exponent - 1))]


def _power_kernel(step: Step, operands: int) -> tuple[Opcode, float] | None:
    exponent = step.attributes["exponent"]
    if exponent == SQUARE:
        return Opcode.SQUARE, exponent
    if exponent == RECIPROCAL:
        return Opcode.RECIPROCAL, exponent
    # The derivative of a constant is 0 whatever is multiplied.
    return None if exponent == 0 else (Opcode.POWER, exponent)


ELEMENTWISE = (
    _nary(name="add", kernel=_always(Opcode.ADD), summary="a + b", derivative="1, 1", forward=_add, vjp=_add_vjp),
    _nary(
        name="mul",
        kernel=_always(Opcode.MUL),
        summary="a b",
        derivative="b, a",
        forward=_mul,
        vjp=_mul_vjp,
        scratch=_mul_scratch,
    ),
    _nary(
        name="max",
        summary="max(a, b)",
        derivative="I[a > b], I[b > a]; at a tie 0, or equal shares",
        forward=_max,
        vjp=_max_vjp,
        kernel=_max_kernel,
        scratch=scratch_arrays(5),  # Counts of ties are as wide as float32, and divide it in float64.
    ),
    _unary(
        name="sigmoid",
        kernel=_always(Opcode.SIGMOID),
        summary="s = 1 / (1 + e^-a)",
        derivative="s (1 - s)",
        forward=_sigmoid,
        vjp=_sigmoid_vjp,
    ),
    _unary(name="exp", kernel=_always(Opcode.EXP), summary="e^a", derivative="e^a", forward=_exp, vjp=_exp_vjp),
    _unary(name="log", kernel=_always(Opcode.LOG), summary="log a", derivative="1 / a", forward=_log, vjp=_log_vjp),
    _unary(
        name="tanh",
        kernel=_always(Opcode.TANH),
        summary="t = tanh a",
        derivative="1 - t^2",
        forward=_tanh,
        vjp=_tanh_vjp,
    ),
    _unary(
        name="softplus",
        summary="log(1 + e^a)",
        derivative="sigmoid(a)",
        forward=_softplus,
        vjp=_softplus_vjp,
        kernel=_always(Opcode.SOFTPLUS),
    ),
    _unary(
        name="power",
        summary="a^p, p constant",
        derivative="p a^(p-1); 0 for p = 0, 1 for p = 1",
        forward=_power,
        vjp=_power_vjp,
        kernel=_power_kernel,
        infer=_power_infer,
    ),
)
