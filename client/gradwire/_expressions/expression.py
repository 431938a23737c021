"""Expressions: what a loss is written with. Ordinary Python that builds a graph instead of computing.

The class, the ops of the contract, and the functions composed of them that its operators and methods call.
"""

from __future__ import annotations

import builtins
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from gradwire._errors import InvalidGraphError
from gradwire._expressions import shapes, tables
from gradwire._expressions.node import Node, Row, from_rows, held, rows
from gradwire._expressions.shapes import Axis
from gradwire._numbers import real

Operand: TypeAlias = "Expression | ArrayLike"

MAX_EXACT = 2**53
"""Whole numbers up to which float64 has each."""

_TINY = 2.0**-126
"""The smallest normal number of float32; reciprocals of much smaller ones overflow."""


class Expression(Node):
    """A node of a graph: a source of data, or an operation on other expressions. Immutable.

    Made by ``gw.parameter``, ``gw.input``, ``gw.constant`` and the functions and operators on them. Its
    ``shape`` is that of ONE example. Shapes are checked when an expression is written, so a mistake is an
    ``InvalidGraphError`` at the line that makes it.
    """

    __slots__ = ()

    operands: tuple[Expression, ...]

    @property
    def T(self) -> Expression:  # noqa: N802  (NumPy's name)
        """The axes reversed."""
        return transpose(self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles as a list of nodes."""
        return _rebuilt, (rows(self),)

    def _repr_svg_(self) -> str | None:
        """The graph of a scalar as a picture, for notebooks; None, and so the text, where there is no picture."""
        return tables.SHOWN["image/svg+xml"](self)

    # Arithmetic.

    def __add__(self, other: Operand) -> Expression:
        return add(self, other)

    def __radd__(self, other: Operand) -> Expression:
        return add(other, self)

    def __sub__(self, other: Operand) -> Expression:
        return subtract(self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return subtract(other, self)

    def __mul__(self, other: Operand) -> Expression:
        return mul(self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return mul(other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return divide(self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return divide(other, self)

    def __pow__(self, exponent: float) -> Expression:
        return power(self, exponent)

    def __rpow__(self, base: Operand) -> Expression:
        return power(base, cast("float", self))  # it says what to write instead

    def __matmul__(self, other: Operand) -> Expression:
        return matmul(self, other)

    def __rmatmul__(self, other: Operand) -> Expression:
        return matmul(other, self)

    def __neg__(self) -> Expression:
        return negative(self)

    def __pos__(self) -> Expression:
        return self

    def __abs__(self) -> Expression:
        return abs(self)

    # Methods that NumPy's arrays have.

    def sum(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``gw.sum`` of it."""
        return sum(self, axis, keepdims=keepdims)

    def mean(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``gw.mean`` of it."""
        return mean(self, axis, keepdims=keepdims)

    def max(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``gw.max`` of it."""
        return max(self, axis, keepdims=keepdims)

    def min(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``gw.min`` of it."""
        return min(self, axis, keepdims=keepdims)

    def reshape(self, *shape: int | Sequence[int]) -> Expression:
        """``gw.reshape`` of it; takes the sizes one by one or together."""
        return reshape(self, shape[0] if len(shape) == 1 else cast("tuple[int, ...]", shape))

    def transpose(self, *axes: int | Sequence[int] | None) -> Expression:
        """``gw.transpose`` of it; takes the axes one by one or together."""
        return transpose(self, axes[0] if len(axes) == 1 else cast("tuple[int, ...]", axes) or None)

    def dot(self, other: Operand) -> Expression:
        """``gw.dot`` of both."""
        return dot(self, other)

    def __getitem__(self, index: object) -> Expression:
        """Rows: an integer, a slice, an array of integers or an integer expression, along the first axis."""
        if isinstance(index, Expression):
            return take(self, index)
        return take(self, shapes.picked(self, index))

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self!r} is a scalar; it has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Expression]:
        return (self[index] for index in range(len(self)))

    # NumPy's functions on expressions.

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **kwargs: object) -> Expression:
        built: Expression = tables.apply_ufunc(ufunc, method, inputs, kwargs)
        return built

    def __array_function__(
        self, func: Callable[..., object], types: object, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        return tables.apply_function(func, args, kwargs)


def _rebuilt(nodes: Sequence[Row]) -> Expression:
    return from_rows(Expression, nodes)


_rebuilt.__module__ = "gradwire._expression"  # the name that pickles know it by, wherever it stands


def constant(value: ArrayLike) -> Expression:
    """A tensor that is part of the graph. Numbers and arrays in expressions become one by themselves.

    It is held in float64; what NumPy has beyond that, in its longer floats, is infinite.
    """
    return _constant(value, np.float64)


def as_expression(value: Expression | ArrayLike) -> Expression:
    """The expression itself, or a constant of the number or array."""
    return value if isinstance(value, Expression) else constant(value)


def add(*operands: Expression | ArrayLike) -> Expression:
    """a + b + ..., left to right, elementwise with broadcasting; one node."""
    return _nary("add", operands)


def mul(*operands: Expression | ArrayLike) -> Expression:
    """a b ..., left to right, elementwise with broadcasting; one node."""
    return _nary("mul", operands)


def maximum(*operands: Expression | ArrayLike) -> Expression:
    """max(a, b, ...), elementwise with broadcasting; one node.

    Derivative: I[a > b], I[b > a]. At a tie it is 0 for all, or equal shares if the graph's ``ties`` is ``"split"``.
    """
    return _nary("max", operands, "maximum")


def sigmoid(x: Expression | ArrayLike) -> Expression:
    """1 / (1 + exp(-x)), elementwise, stable in both tails."""
    return _unary("sigmoid", x)


def exp(x: Expression | ArrayLike) -> Expression:
    """exp(x), elementwise."""
    return _unary("exp", x)


def log(x: Expression | ArrayLike) -> Expression:
    """Natural logarithm, elementwise."""
    return _unary("log", x)


def tanh(x: Expression | ArrayLike) -> Expression:
    """Hyperbolic tangent, elementwise."""
    return _unary("tanh", x)


def softplus(x: Expression | ArrayLike) -> Expression:
    """log(1 + exp(x)), elementwise, stable in both tails."""
    return _unary("softplus", x)


def power(x: Expression | ArrayLike, exponent: float) -> Expression:
    """x to the power of a constant, elementwise; 0 and 1 are exact, also in the derivative at x = 0."""
    if isinstance(exponent, Expression):
        raise InvalidGraphError(
            "the exponent of power is a constant number; write x ** y with an expression y as gw.exp(y * gw.log(x))"
        )
    number = real(exponent)
    if number is None:
        raise InvalidGraphError(f"power with exponent {exponent!r:.64}; expected one number, the same for all elements")
    if not math.isfinite(number):
        raise InvalidGraphError(f"power with exponent {number}; it must be finite")
    return _unary("power", x, exponent=number)


def sum(  # noqa: A001  (NumPy's name; use it as gw.sum)
    x: Expression | ArrayLike, axis: Axis = None, *, keepdims: bool = False
) -> Expression:
    """Sum over axes: all of them (None), one, or several; ``axis=()`` is the identity, as in NumPy."""
    return _reduction("sum", as_expression(x), axis, keepdims=keepdims)


def max(  # noqa: A001  (NumPy's name; use it as gw.max)
    x: Expression | ArrayLike, axis: Axis = None, *, keepdims: bool = False
) -> Expression:
    """Largest element over axes, the ``reduce_max`` node; ties as for ``maximum``."""
    node = as_expression(x)
    shapes.check_elements("max", node, axis)
    return _reduction("reduce_max", node, axis, keepdims=keepdims)


def logsumexp(x: Expression | ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Expression:
    """log(sum(exp(x))) over axes, without overflow; of -inf alone it is -inf, with gradient 0."""
    node = as_expression(x)
    shapes.check_elements("logsumexp", node, axis)
    return _reduction("logsumexp", node, axis, keepdims=keepdims)


def matmul(a: Expression | ArrayLike, b: Expression | ArrayLike) -> Expression:
    """Matrix product as ``np.matmul``: of vectors, matrices and stacks of matrices."""
    left, right = as_expression(a), as_expression(b)
    return Expression("matmul", shapes.multiplied(left, right), operands=(left, right))


def reshape(x: Expression | ArrayLike, shape: int | Sequence[int]) -> Expression:
    """The elements, in row-major order, in another shape; one size may be -1."""
    node = as_expression(x)
    sizes = shapes.reshaped(node, shape)
    return Expression("reshape", sizes, operands=(node,), attributes={"shape": sizes})


def transpose(x: Expression | ArrayLike, axes: int | Sequence[int] | None = None) -> Expression:
    """The axes in another order; reversed without ``axes``."""
    node = as_expression(x)
    order = shapes.transposed(node, axes)
    if not order:
        return node
    shape = tuple(node.shape[axis] for axis in order)
    return Expression("transpose", shape, operands=(node,), attributes={"axes": order})


def take(x: Expression | ArrayLike, indices: Expression | ArrayLike) -> Expression:
    """Rows of ``x`` by integer index, as ``np.take(x, indices, axis=0)``; negative ones count from the end.

    Args:
        x: Of shape ``(size, *rest)``.
        indices: Integers of any shape ``S``, or an input of dtype int64. The result has shape ``(*S, *rest)``.
    """
    node = as_expression(x)
    shapes.check_floats("take", [node])
    picks = _whole_numbers(indices) if isinstance(indices, Expression) else _constant(indices, np.int64)
    return Expression("take", shapes.taken(node, picks), operands=(node, picks))


def _whole_numbers(node: Expression) -> Expression:
    """Row indices, of a constant of whole numbers too, which ``constant`` holds in float64."""
    value = node.value
    if value is None or node.name or value.dtype == np.int64 or not np.array_equal(value, np.trunc(value)):
        return node
    return _constant(value.astype(np.int64), np.int64) if np.abs(value).max(initial=0) < MAX_EXACT else node


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
    # 0 and -0 tie, so that either may be the maximum; adding 0 makes both 0.
    return add(maximum(x, negative(x)), 0)


def min(  # noqa: A001  (NumPy's name; use it as gw.min)
    x: Operand, axis: Axis = None, *, keepdims: bool = False
) -> Expression:
    """Smallest element over axes; ties as for ``max``."""
    node = as_expression(x)
    shapes.check_elements("min", node, axis)
    return negative(max(negative(node), axis, keepdims=keepdims))


def mean(x: Operand, axis: Axis = None, *, keepdims: bool = False) -> Expression:
    """Mean over axes of one example."""
    node = as_expression(x)
    count = math.prod(node.shape[a] for a in shapes.axes_of(node, axis))
    if count == 0:
        raise InvalidGraphError(f"mean over an empty axis of {node!r}: nothing has no mean")
    return divide(sum(node, axis, keepdims=keepdims), count)


def dot(a: Operand, b: Operand) -> Expression:
    """The product of scalars, vectors or matrices that ``np.dot`` gives."""
    left, right = as_expression(a), as_expression(b)
    if not left.shape or not right.shape:
        return mul(left, right)
    if builtins.max(left.ndim, right.ndim) > 2:
        raise InvalidGraphError(f"dot of {left!r} and {right!r}: for stacks of matrices use gw.matmul")
    return matmul(left, right)


def _constant(value: ArrayLike, dtype: type[np.float64 | np.int64]) -> Expression:
    array = held(value, dtype)
    return Expression("constant", array.shape, value=array)


def _unary(op: str, x: Expression | ArrayLike, **attributes: Any) -> Expression:
    node = as_expression(x)
    shapes.check_floats(op, [node])
    return Expression(op, node.shape, operands=(node,), attributes=attributes)


def _nary(op: str, given: Sequence[Expression | ArrayLike], called: str = "") -> Expression:
    operands = tuple(map(as_expression, given))
    if not operands:
        raise InvalidGraphError(f"{called or op} of nothing; give at least one operand")
    shapes.check_floats(op, operands)
    if len(operands) == 1:
        return operands[0]
    return Expression(op, shapes.broadcast(op, operands, [node.shape for node in operands]), operands=operands)


def _reduction(op: str, node: Expression, axis: Axis, *, keepdims: bool) -> Expression:
    shapes.check_floats(op, [node])
    axes, keep = shapes.axes_of(node, axis), shapes.flag("keepdims", keepdims)
    if not axes:
        return node
    shape = shapes.reduced(node, axes, keepdims=keep)
    return Expression(op, shape, operands=(node,), attributes={"axes": axes, "keepdims": keep})
