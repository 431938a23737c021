"""The ops of the contract as functions, and what NumPy's operators are composed of."""

from __future__ import annotations

import builtins
import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from gradwire._errors import InvalidGraphError
from gradwire._expressions import shapes
from gradwire._expressions.expression import Expression, Operand, as_expression, made_constant
from gradwire._expressions.shapes import Axis
from gradwire._numbers import real

MAX_EXACT = 2**53
"""Whole numbers up to which float64 has each."""

_TINY = 2.0**-126
"""The smallest normal number of float32; reciprocals of much smaller ones overflow."""


def add(*operands: Operand) -> Expression:
    """a + b + ..., left to right, elementwise with broadcasting; one node."""
    return _nary("add", operands)


def mul(*operands: Operand) -> Expression:
    """a b ..., left to right, elementwise with broadcasting; one node."""
    return _nary("mul", operands)


def maximum(*operands: Operand) -> Expression:
    """max(a, b, ...), elementwise with broadcasting; one node.

    Derivative: I[a > b], I[b > a]. At a tie it is 0 for all, or equal shares if the graph's ``ties`` is ``"split"``.
    """
    return _nary("max", operands, "maximum")


def sigmoid(x: Operand) -> Expression:
    """1 / (1 + exp(-x)), elementwise, stable in both tails."""
    return unary("sigmoid", x)


def exp(x: Operand) -> Expression:
    """exp(x), elementwise."""
    return unary("exp", x)


def expm1(x: Operand) -> Expression:
    """exp(x) - 1, elementwise, accurate also near 0."""
    return unary("expm1", x)


def log(x: Operand) -> Expression:
    """Natural logarithm, elementwise."""
    return unary("log", x)


def log1p(x: Operand) -> Expression:
    """log(1 + x), elementwise, accurate also near 0."""
    return unary("log1p", x)


def sin(x: Operand) -> Expression:
    """Sine, elementwise."""
    return unary("sin", x)


def cos(x: Operand) -> Expression:
    """Cosine, elementwise."""
    return unary("cos", x)


def tanh(x: Operand) -> Expression:
    """Hyperbolic tangent, elementwise."""
    return unary("tanh", x)


def erf(x: Operand) -> Expression:
    """Error function, elementwise."""
    return unary("erf", x)


def softplus(x: Operand) -> Expression:
    """log(1 + exp(x)), elementwise, stable in both tails."""
    return unary("softplus", x)


def less(a: Operand, b: Operand) -> Expression:
    """1 where a < b, else 0, elementwise with broadcasting; with NaN it is 0. Its gradient is 0."""
    return elementwise("less", a, b)


def equal(a: Operand, b: Operand) -> Expression:
    """1 where a = b, else 0, elementwise with broadcasting; with NaN it is 0. Its gradient is 0."""
    return elementwise("equal", a, b)


def where(condition: Operand, x: Operand, y: Operand) -> Expression:
    """x where the condition is not 0, else y, elementwise with broadcasting; the ``select`` node.

    The gradient goes to what is selected, and exactly 0 to the other one, also where that is not finite.
    """
    return elementwise("select", condition, x, y)


def power(x: Operand, exponent: ArrayLike | Expression) -> Expression:
    """x to the power of a constant, elementwise; 0 and 1 are exact, also in the derivative at x = 0.

    The exponent may be an array, which broadcasts with x, and an expression where x is a constant above 0.
    """
    if isinstance(exponent, Expression):
        base = as_expression(x).value
        if base is None or not (base > 0).all():
            raise InvalidGraphError(
                "the exponent of power is a constant number; write x ** y with an expression y as gw.exp(y * gw.log(x))"
            )
        return exp(mul(exponent, np.log(base)))
    number = real(exponent)
    if number is None:
        return _powers(as_expression(x), exponent)
    if not math.isfinite(number):
        raise InvalidGraphError(f"power with exponent {number}; it must be finite")
    return unary("power", x, exponent=number)


def _powers(x: Expression, exponents: ArrayLike) -> Expression:
    """x to the power of an array of constants."""
    given, own = shapes.exponents(exponents)
    wide = mul(x, np.ones(given.shape))
    total = as_expression(np.zeros(wide.shape))
    for exponent in own:
        holds = np.broadcast_to(given == exponent, wide.shape)
        # What is not selected is 1, so that nothing infinite is there.
        total = where(holds, unary("power", where(holds, wide, 1), exponent=exponent), total)
    return total


def sum(  # noqa: A001  (NumPy's name; use it as gw.sum)
    x: Operand, axis: Axis = None, *, keepdims: bool = False, initial: float | None = None, where: Operand = True
) -> Expression:
    """Sum over axes: all of them (None), one, or several; ``axis=()`` is the identity, as in NumPy.

    Args:
        x: What to sum.
        axis: Counted from the front, or from the end if negative.
        keepdims: Whether the axes stay, with size 1.
        initial: A number to add.
        where: A mask of the elements that count, which broadcasts with ``x``; the others may be infinite or NaN.
    """
    total = reduction("sum", chosen(x, where, 0), axis, keepdims=keepdims)
    return total if initial is None else add(total, initial)


def max(  # noqa: A001  (NumPy's name; use it as gw.max)
    x: Operand, axis: Axis = None, *, keepdims: bool = False, initial: float | None = None, where: Operand = True
) -> Expression:
    """Largest element over axes, the ``reduce_max`` node; ties as for ``maximum``.

    ``initial`` takes part too; ``where`` is a mask of the elements that do, and needs it, as in NumPy.
    """
    given, least = as_expression(x), _least("max", initial, where)
    if given.is_mask and initial is not None:
        # In NumPy a boolean too.
        initial = least = builtins.bool(least)
    node = chosen(given, where, least)
    if initial is None:
        shapes.check_elements("max", node, axis)
        return reduction("reduce_max", node, axis, keepdims=keepdims)
    if node.size == 0:
        return add(reduction("sum", node, axis, keepdims=keepdims), initial)
    return maximum(reduction("reduce_max", node, axis, keepdims=keepdims), initial)


def matmul(a: Operand, b: Operand) -> Expression:
    """Matrix product as ``np.matmul``: of vectors, matrices and stacks of matrices."""
    left, right = as_expression(a), as_expression(b)
    return Expression("matmul", shapes.multiplied(left, right), operands=(left, right))


def reshape(x: Operand, shape: int | Sequence[int]) -> Expression:
    """The elements, in row-major order, in another shape; one size may be -1."""
    node = as_expression(x)
    sizes = shapes.reshaped(node, shape)
    if sizes == node.shape:
        return node
    return Expression("reshape", sizes, operands=(node,), attributes={"shape": sizes})


def transpose(x: Operand, axes: int | Sequence[int] | None = None) -> Expression:
    """The axes in another order; reversed without ``axes``."""
    node = as_expression(x)
    order = shapes.transposed(node, axes)
    if list(order) == sorted(order):
        return node
    shape = tuple(node.shape[axis] for axis in order)
    return Expression("transpose", shape, operands=(node,), attributes={"axes": order})


def take(x: Operand, indices: Operand, axis: int = 0) -> Expression:
    """Entries of ``x`` along an axis by integer index, as ``np.take``; negative ones count from the end.

    Args:
        x: Of shape ``(*before, size, *after)``.
        indices: Integers of any shape ``S``, or an input of dtype int64. They make the shape ``(*before, *S, *after)``.
        axis: Where ``size`` is.
    """
    node, picks = as_expression(x), as_indices(indices)
    shapes.check_floats("take", [node])
    own = shapes.taken_along(node, axis)
    shape = shapes.taken(node, picks, own)
    # An axis that goes without saying is not said, so that servers of before know it too.
    return Expression("take", shape, operands=(node, picks), attributes={"axis": own} if own else {})


def as_indices(indices: Operand) -> Expression:
    """Row indices, as an expression."""
    return _whole_numbers(indices) if isinstance(indices, Expression) else made_constant(indices, np.int64)


def _whole_numbers(node: Expression) -> Expression:
    """Row indices, of a constant of whole numbers too, which ``constant`` holds in float64."""
    value = node.value
    if value is None or node.name or value.dtype == np.int64 or not np.array_equal(value, np.trunc(value)):
        return node
    return made_constant(value.astype(np.int64), np.int64) if np.abs(value).max(initial=0) < MAX_EXACT else node


def cumsum(x: Operand, axis: int | None = None) -> Expression:
    """Sums of the elements up to each, along an axis; without one those of all elements, as NumPy does."""
    given = as_expression(x)
    shapes.check_floats("cumsum", [given])
    node = reshape(given, (given.size,)) if axis is None or not given.shape else given
    return Expression("cumsum", node.shape, operands=(node,), attributes={"axis": shapes.one_axis(node, axis or 0)})


def concatenate(arrays: Sequence[Operand], axis: int | None = 0) -> Expression:
    """Operands one after another, along an axis that they have; without one all their elements, as NumPy does."""
    nodes = tuple(map(as_expression, arrays))
    if axis is None:
        nodes, axis = tuple(reshape(node, (node.size,)) for node in nodes), 0
    own, shape = shapes.concatenated(nodes, axis)
    return nodes[0] if len(nodes) == 1 else Expression("concatenate", shape, operands=nodes, attributes={"axis": own})


def part(x: Expression, slices: Sequence[tuple[int, int, int]]) -> Expression:
    """The ``slice`` node, from the start, the number and the distance of elements along each axis."""
    node = as_expression(x)
    shapes.check_floats("slice", [node])
    starts, sizes, steps = (tuple(own) for own in zip(*slices, strict=True)) if slices else ((), (), ())
    if sizes == node.shape and builtins.min(steps, default=1) > 0:
        return node
    attributes = {"starts": starts, "sizes": sizes, "steps": steps}
    return Expression("slice", tuple(sizes), operands=(node,), attributes=attributes)


def scatter_add(values: Operand, indices: Operand, size: int, axis: int = 0) -> Expression:
    """Zeros, ``size`` of them along an axis, to which entries are added by integer index: the transpose of ``take``.

    Args:
        values: Of shape ``(*before, *S, *after)``.
        indices: Integers of shape ``S``, or an input of dtype int64. The result has shape ``(*before, size, *after)``.
        size: Of the axis.
        axis: Where ``size`` is in the result.
    """
    node, picks = as_expression(values), as_indices(indices)
    shapes.check_floats("scatter_add", [node])
    own, shape = shapes.scattered(node, picks, size, axis)
    return Expression("scatter_add", shape, operands=(node, picks), attributes={"axis": own, "size": shape[own]})


def logsumexp(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Expression:
    """log(sum(exp(x))) over axes, without overflow; of -inf alone it is -inf, with gradient 0."""
    node = as_expression(x)
    shapes.check_elements("logsumexp", node, axis)
    return reduction("logsumexp", node, axis, keepdims=keepdims)


def subtract(a: Operand, b: Operand) -> Expression:
    """a - b."""
    return add(a, negative(b))


def negative(x: Operand) -> Expression:
    """-x."""
    node = as_expression(x)
    return as_expression(-node.value) if node.value is not None else mul(node, -1)


def divide(a: Operand, b: Operand) -> Expression:
    """a / b, as a times the reciprocal of b."""
    node = as_expression(b)
    if node.value is None:
        return mul(a, power(node, -1))
    # Both sides times the same power of two, so that no reciprocal overflows.
    tiny = (node.value != 0) & (np.abs(node.value) < _TINY)
    scale = np.where(tiny, 2.0**64, 1.0)
    with np.errstate(divide="ignore"):
        reciprocal = np.reciprocal(node.value * scale)
    return mul(a, scale, reciprocal) if tiny.any() else mul(a, reciprocal)


def abs(x: Operand) -> Expression:  # noqa: A001  (NumPy's name; use it as gw.abs)
    """|x| = max(x, -x); its derivative at 0 is 0."""
    if as_expression(x).is_mask:
        return as_expression(x)
    # 0 and -0 tie, so that either may be the maximum; adding 0 makes both 0.
    return add(maximum(x, negative(x)), 0)


def min(  # noqa: A001  (NumPy's name; use it as gw.min)
    x: Operand, axis: Axis = None, *, keepdims: bool = False, initial: float | None = None, where: Operand = True
) -> Expression:
    """Smallest element over axes; ties, ``initial`` and ``where`` as for ``max``."""
    node, least = as_expression(x), _least("min", initial, where)
    if initial is None:
        shapes.check_elements("min", node, axis)
    if node.is_mask:
        first: float | None = None if initial is None else least == 0
        return equal(max(equal(node, 0), axis, keepdims=keepdims, initial=first, where=where), 0)
    first = None if initial is None else -least
    return negative(max(negative(node), axis, keepdims=keepdims, initial=first, where=where))


def mean(x: Operand, axis: Axis = None, *, keepdims: bool = False, where: Operand = True) -> Expression:
    """Mean over axes of one example, of the elements where a mask is not 0."""
    node = as_expression(x)
    if where is not True:
        total = sum(node, axis, keepdims=keepdims, where=where)
        return divide(total, counted(node, axis, keepdims=keepdims, where=where))
    count = math.prod(node.shape[a] for a in shapes.axes_of(node, axis))
    if count == 0:
        raise InvalidGraphError(f"mean over an empty axis of {node!r}: nothing has no mean")
    return divide(sum(node, axis, keepdims=keepdims), count)


def counted(x: Operand, axis: Axis, *, keepdims: bool, where: Operand) -> Expression:
    """How many elements of ``x`` over axes count by a mask."""
    node = as_expression(x)
    return sum(elementwise("select", where, np.ones(node.shape), 0), axis, keepdims=keepdims)


def chosen(x: Operand, mask: Operand, other: float) -> Expression:
    """The elements where a mask is not 0, and another number where it is."""
    if mask is True:
        return as_expression(x)
    return where(mask, x, other)


def _least(called: str, initial: object, mask: Operand) -> float:
    """The ``initial`` of a largest or smallest element, which a mask needs."""
    number = float(initial) if isinstance(initial, bool | np.bool_) else real(initial)
    if initial is None and mask is not True:
        raise InvalidGraphError(f"{called} with where= and no initial=, which is what there is where the mask is 0")
    if initial is not None and number is None:
        raise InvalidGraphError(f"{called} with initial={initial!r:.64}; expected a number")
    return number or 0.0


def as_numbers(node: Expression) -> Expression:
    """The expression itself, or 1 and 0 of a mask."""
    return add(node, 0) if node.is_mask else node


def unary(op: str, x: Operand, **attributes: Any) -> Expression:
    """An op of one operand that keeps its shape."""
    node = as_expression(x)
    shapes.check_floats(op, [node])
    return Expression(op, node.shape, operands=(node,), attributes=attributes)


def _nary(op: str, given: Sequence[Operand], called: str = "") -> Expression:
    if not given:
        raise InvalidGraphError(f"{called or op} of nothing; give at least one operand")
    return as_expression(given[0]) if len(given) == 1 else elementwise(op, *given)


def elementwise(op: str, *given: Operand) -> Expression:
    """An op whose operands broadcast."""
    operands = tuple(map(as_expression, given))
    shapes.check_floats(op, operands)
    return Expression(op, shapes.broadcast(op, operands, [node.shape for node in operands]), operands=operands)


def reduction(op: str, node: Expression, axis: Axis, *, keepdims: bool) -> Expression:
    """An op that reduces axes."""
    shapes.check_floats(op, [node])
    axes, keep = shapes.axes_of(node, axis), shapes.flag("keepdims", keepdims)
    if not axes:
        return node if op == "reduce_max" else as_numbers(node)
    shape = shapes.reduced(node, axes, keepdims=keep)
    return Expression(op, shape, operands=(node,), attributes={"axes": axes, "keepdims": keep})
