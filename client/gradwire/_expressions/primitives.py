"""Sources, and one function for each op of the contract. Everything else is composed of these."""

from __future__ import annotations

import builtins
import math
from collections.abc import Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike

from gradwire._arrays import INT64, MAX_INDEX, dtype_of, holds_integers
from gradwire._errors import InvalidGraphError
from gradwire._expressions.expression import Expression, Shape, checked_name
from gradwire._numbers import real, whole

MAX_EXACT = 2**53
"""Whole numbers up to which float64 has each."""

Axis = int | tuple[int, ...] | None


def parameter(name: str, shape: int | Sequence[int] = ()) -> Expression:
    """A tensor that calls supply under ``name`` and that the loss is differentiated in.

    Args:
        name: Unique in the graph.
        shape: Its shape; ``()`` is a scalar.
    """
    checked_name(name)
    return Expression("parameter", _as_shape(shape, name), name=name)


def input(  # noqa: A001  (what every framework calls it; use it as gw.input)
    name: str, shape: int | Sequence[int] = (), *, per_example: bool = False, dtype: object = None
) -> Expression:
    """A tensor of data that calls supply under ``name``.

    Args:
        name: Unique in the graph.
        shape: Shape for one example.
        per_example: Whether each example has its own; calls then supply ``[N, *shape]``.
        dtype: ``"int64"`` for row indices of ``gw.take``; otherwise the float dtype of the call.
    """
    checked_name(name)
    attributes: dict[str, Any] = {"per_example": _flag("per_example", per_example)}
    if dtype is not None:
        if dtype_of(dtype) != INT64:
            raise InvalidGraphError(
                f'input "{name}" has dtype {dtype!r}; give "int64" for row indices, and nothing for floats', node=name
            )
        attributes["dtype"] = "int64"
    return Expression("input", _as_shape(shape, name), name=name, attributes=attributes)


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
    check_elements("max", node, axis)
    return _reduction("reduce_max", node, axis, keepdims=keepdims)


def logsumexp(x: Expression | ArrayLike, axis: Axis = None, *, keepdims: bool = False) -> Expression:
    """log(sum(exp(x))) over axes, without overflow; of -inf alone it is -inf, with gradient 0."""
    node = as_expression(x)
    check_elements("logsumexp", node, axis)
    return _reduction("logsumexp", node, axis, keepdims=keepdims)


def matmul(a: Expression | ArrayLike, b: Expression | ArrayLike) -> Expression:
    """Matrix product as ``np.matmul``: of vectors, matrices and stacks of matrices."""
    left, right = as_expression(a), as_expression(b)
    _floats("matmul", [left, right])
    for node in (left, right):
        if not node.shape:
            raise InvalidGraphError(f"matmul of the scalar {node!r}; use * to scale")
    inner = right.shape[0] if right.ndim == 1 else right.shape[-2]
    if left.shape[-1] != inner:
        raise InvalidGraphError(f"matmul of {left!r} and {right!r}: {left.shape[-1]} columns do not match {inner} rows")
    stack = _broadcast("matmul", [left, right], [left.shape[:-2], right.shape[:-2]])
    shape = stack + left.shape[-2:-1] + (right.shape[-1:] if right.ndim > 1 else ())
    return Expression("matmul", shape, operands=(left, right))


def reshape(x: Expression | ArrayLike, shape: int | Sequence[int]) -> Expression:
    """The elements, in row-major order, in another shape; one size may be -1."""
    node = as_expression(x)
    _floats("reshape", [node])
    sizes = _integers(shape)
    if sizes is None:
        raise InvalidGraphError(f"{shape!r:.64}, for reshape of {node!r}, is no shape; give a tuple of integers")
    known = math.prod(size for size in sizes if size != -1)
    if sizes.count(-1) == 1 and known > 0 and node.size % known == 0:
        sizes[sizes.index(-1)] = node.size // known
    fits = min(sizes, default=0) >= 0 and builtins.max(sizes, default=0) <= MAX_INDEX
    if not fits or math.prod(sizes) != node.size:
        raise InvalidGraphError(f"reshape of {node!r} with {node.size} elements to {shape!r} does not fit")
    return Expression("reshape", tuple(sizes), operands=(node,), attributes={"shape": tuple(sizes)})


def transpose(x: Expression | ArrayLike, axes: int | Sequence[int] | None = None) -> Expression:
    """The axes in another order; reversed without ``axes``."""
    node = as_expression(x)
    _floats("transpose", [node])
    given = list(reversed(range(node.ndim))) if axes is None else _integers(axes)
    if given is None or len(given) != node.ndim:
        raise InvalidGraphError(f"transpose of {node!r} with axes {axes!r:.64}: give all {node.ndim} of them, integers")
    order = _normal_axes(node, tuple(given))
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
    _floats("take", [node])
    picks = _whole_numbers(indices) if isinstance(indices, Expression) else _constant(indices, np.int64)
    if not node.shape:
        raise InvalidGraphError(f"take from the scalar {node!r}: it has no rows")
    if not is_integer(picks):
        raise InvalidGraphError(f"take with indices {picks!r} of floats; give integers, gw.input(..., dtype='int64')")
    if picks.value is not None and picks.size:
        low, high = int(picks.value.min()), int(picks.value.max())
        if low < -node.shape[0] or high >= node.shape[0]:
            wrong = high if high >= node.shape[0] else low
            raise InvalidGraphError(f"take of row {wrong} from {node!r}, which has {node.shape[0]} rows")
    return Expression("take", picks.shape + node.shape[1:], operands=(node, picks))


def _whole_numbers(node: Expression) -> Expression:
    """Row indices, of a constant of whole numbers too, which ``constant`` holds in float64."""
    value = node.value
    if value is None or node.name or value.dtype == np.int64 or not np.array_equal(value, np.trunc(value)):
        return node
    return _constant(value.astype(np.int64), np.int64) if np.abs(value).max(initial=0) < MAX_EXACT else node


def is_integer(node: Expression) -> bool:
    """Whether the node holds row indices."""
    if node.value is not None:
        return node.value.dtype == np.int64
    return node.attributes.get("dtype") == "int64"


def axes_of(node: Expression, axis: Axis) -> tuple[int, ...]:
    """The axes that ``axis`` names, counted from the front."""
    if axis is None:
        return tuple(range(node.ndim))
    axes = _integers(axis) if isinstance(axis, tuple) or whole(axis) is not None else None
    if axes is None:
        raise InvalidGraphError(
            f"axis={axis!r:.64} names no axis of {node!r}; give an integer, a tuple of integers, or None for all"
        )
    return _normal_axes(node, tuple(axes))


def check_elements(called: str, node: Expression, axis: Axis) -> None:
    """Refuse to look for the largest of no elements, in the name of the function that was ``called``."""
    axes = axes_of(node, axis)
    rest = math.prod(size for a, size in enumerate(node.shape) if a not in axes)
    if node.size == 0 and rest > 0:
        raise InvalidGraphError(f"{called} over an empty axis of {node!r}; expected at least one element")


def _integers(given: object) -> list[int] | None:
    """One integer or several, as a list; None if it is something else."""
    one = whole(given)
    try:
        numbers = [whole(number) for number in cast("Iterable[object]", given)] if one is None else [one]
    except TypeError:
        return None
    integers = [number for number in numbers if number is not None]
    return integers if len(integers) == len(numbers) else None


def _flag(name: str, value: object) -> bool:
    if not isinstance(value, bool | np.bool_):
        raise InvalidGraphError(f"{name}={value!r:.64} is neither True nor False")
    return bool(value)


def _as_shape(shape: int | Sequence[int], name: str) -> Shape:
    sizes = _integers(shape)
    if sizes is None:
        raise InvalidGraphError(f'{shape!r:.64}, of "{name}", is no shape; give a tuple of integers', node=name)
    if min(sizes, default=0) < 0:
        raise InvalidGraphError(f'shape {tuple(sizes)} of "{name}" has a negative size', node=name)
    if builtins.max(sizes, default=0) > MAX_INDEX:
        raise InvalidGraphError(f'shape {tuple(sizes)} of "{name}" has a size beyond 64 bits, signed', node=name)
    return tuple(sizes)


def _constant(value: ArrayLike, dtype: type[np.float64 | np.int64]) -> Expression:
    try:
        given = np.asarray(value)
        if given.dtype.kind not in "biuf" if dtype is np.float64 else not holds_integers(given):
            raise TypeError(f"dtype {given.dtype}")  # noqa: TRY301  (told with the other reasons below)
        if dtype is np.int64 and given.size and given.max() > MAX_INDEX:
            raise OverflowError(f"{given.max()} is beyond 64 bits, signed")  # noqa: TRY301  (as above)
        with np.errstate(over="ignore"):
            array = np.array(given, dtype, order="C")
    except Exception as error:  # whatever the caller's object raises
        kind = "an array of numbers" if dtype is np.float64 else "an array of integers"
        raise InvalidGraphError(f"{value!r:.64} is no constant; expected {kind} ({error})") from error
    array.flags.writeable = False
    return Expression("constant", array.shape, value=array)


def _floats(op: str, operands: Sequence[Expression]) -> None:
    for node in operands:
        if is_integer(node):
            raise InvalidGraphError(
                f"{op} of {node!r}, which holds row indices; only take uses them, as its second operand", node=node.name
            )


def _unary(op: str, x: Expression | ArrayLike, **attributes: Any) -> Expression:
    node = as_expression(x)
    _floats(op, [node])
    return Expression(op, node.shape, operands=(node,), attributes=attributes)


def _nary(op: str, given: Sequence[Expression | ArrayLike], called: str = "") -> Expression:
    operands = tuple(map(as_expression, given))
    if not operands:
        raise InvalidGraphError(f"{called or op} of nothing; give at least one operand")
    _floats(op, operands)
    if len(operands) == 1:
        return operands[0]
    return Expression(op, _broadcast(op, operands, [node.shape for node in operands]), operands=operands)


def _reduction(op: str, node: Expression, axis: Axis, *, keepdims: bool) -> Expression:
    _floats(op, [node])
    axes, keep = axes_of(node, axis), _flag("keepdims", keepdims)
    if not axes:
        return node
    kept = tuple(1 if a in axes else size for a, size in enumerate(node.shape))
    shape = kept if keep else tuple(size for a, size in enumerate(node.shape) if a not in axes)
    return Expression(op, shape, operands=(node,), attributes={"axes": axes, "keepdims": keep})


def _normal_axes(node: Expression, axes: tuple[int, ...]) -> tuple[int, ...]:
    for axis in axes:
        if not -node.ndim <= axis < node.ndim:
            raise InvalidGraphError(f"axis {axis} is out of range for {node!r} with {node.ndim} axes")
    normal = tuple(axis % node.ndim for axis in axes)
    if len(set(normal)) != len(normal):
        raise InvalidGraphError(f"axes {axes} of {node!r} name one axis twice")
    return normal


def _broadcast(op: str, nodes: Sequence[Expression], shapes: Sequence[Shape]) -> Shape:
    if all(shape == shapes[0] for shape in shapes):
        return shapes[0]
    rank = builtins.max(map(len, shapes))
    result = [1] * rank
    for shape in shapes:
        for axis, size in enumerate(shape, start=rank - len(shape)):
            if size == 1 or result[axis] == size:
                continue
            if result[axis] != 1:
                shown = " and ".join(repr(node) for node in nodes[:2])
                raise InvalidGraphError(f"{op} of {shown}: the shapes do not broadcast")
            result[axis] = size
    return tuple(result)
