"""Expressions: what a loss is written with. Ordinary Python that builds a graph instead of computing.

The class, whose operators and methods call the functions by their names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike

from gradwire._arrays import AS_NUMBERS, dtype_of
from gradwire._errors import InvalidGraphError
from gradwire._expressions import tables
from gradwire._expressions.node import Node, Row, from_rows, held, rows

Operand: TypeAlias = "Expression | ArrayLike"


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
        return _by_name("transpose", self)

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles as a list of nodes."""
        return _rebuilt, (rows(self),)

    def _repr_svg_(self) -> str | None:
        """The graph of a scalar as a picture, for notebooks; None, and so the text, where there is no picture."""
        return tables.SHOWN["image/svg+xml"](self)

    # Arithmetic.

    def __add__(self, other: Operand) -> Expression:
        return _by_name("plus", self, other)

    def __radd__(self, other: Operand) -> Expression:
        return _by_name("plus", other, self)

    def __sub__(self, other: Operand) -> Expression:
        return _by_name("minus", self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return _by_name("minus", other, self)

    def __mul__(self, other: Operand) -> Expression:
        return _by_name("mul", self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return _by_name("mul", other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return _by_name("divide", self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return _by_name("divide", other, self)

    def __pow__(self, exponent: float) -> Expression:
        return _by_name("power", self, exponent)

    def __rpow__(self, base: Operand) -> Expression:
        return _by_name("power", base, self)  # it says what to write instead

    def __matmul__(self, other: Operand) -> Expression:
        return _by_name("times", self, other)

    def __rmatmul__(self, other: Operand) -> Expression:
        return _by_name("times", other, self)

    def __neg__(self) -> Expression:
        return _by_name("opposite", self)

    def __pos__(self) -> Expression:
        return self

    def __abs__(self) -> Expression:
        return _by_name("abs", self)

    # Methods that NumPy's arrays have.

    def sum(
        self,
        axis: int | tuple[int, ...] | None = None,
        *,
        dtype: object = None,
        keepdims: bool = False,
        initial: float | None = None,
        where: Operand = True,
    ) -> Expression:
        """``gw.sum`` of it."""
        node = tables.in_dtype("sum", self, dtype)
        return _by_name("sum", node, axis, keepdims=keepdims, initial=initial, where=where)

    def mean(
        self,
        axis: int | tuple[int, ...] | None = None,
        *,
        dtype: object = None,
        keepdims: bool = False,
        where: Operand = True,
    ) -> Expression:
        """``gw.mean`` of it."""
        return _by_name("mean", tables.in_dtype("mean", self, dtype), axis, keepdims=keepdims, where=where)

    def max(
        self,
        axis: int | tuple[int, ...] | None = None,
        *,
        keepdims: bool = False,
        initial: float | None = None,
        where: Operand = True,
    ) -> Expression:
        """``gw.max`` of it."""
        return _by_name("max", self, axis, keepdims=keepdims, initial=initial, where=where)

    def min(
        self,
        axis: int | tuple[int, ...] | None = None,
        *,
        keepdims: bool = False,
        initial: float | None = None,
        where: Operand = True,
    ) -> Expression:
        """``gw.min`` of it."""
        return _by_name("min", self, axis, keepdims=keepdims, initial=initial, where=where)

    def reshape(self, *shape: int | Sequence[int], order: str = "C") -> Expression:
        """``np.reshape`` of it; takes the sizes one by one or together."""
        sizes = shape[0] if len(shape) == 1 else cast("tuple[int, ...]", shape)
        return _by_name("reshape", self, sizes) if order == "C" else _by_name("reshape_in", self, sizes, order)

    def transpose(self, *axes: int | Sequence[int] | None) -> Expression:
        """``gw.transpose`` of it; takes the axes one by one or together."""
        return _by_name("transpose", self, axes[0] if len(axes) == 1 else cast("tuple[int, ...]", axes) or None)

    def dot(self, other: Operand) -> Expression:
        """``gw.dot`` of both."""
        return _by_name("dot", self, other)

    def std(
        self,
        axis: int | tuple[int, ...] | None = None,
        *,
        dtype: object = None,
        keepdims: bool = False,
        ddof: float = 0,
        where: Operand = True,
    ) -> Expression:
        """``gw.std`` of it."""
        return _by_name("std", tables.in_dtype("std", self, dtype), axis, keepdims=keepdims, ddof=ddof, where=where)

    def var(
        self,
        axis: int | tuple[int, ...] | None = None,
        *,
        dtype: object = None,
        keepdims: bool = False,
        ddof: float = 0,
        where: Operand = True,
    ) -> Expression:
        """``gw.var`` of it."""
        return _by_name("var", tables.in_dtype("var", self, dtype), axis, keepdims=keepdims, ddof=ddof, where=where)

    def prod(
        self,
        axis: int | tuple[int, ...] | None = None,
        *,
        dtype: object = None,
        keepdims: bool = False,
        initial: float | None = None,
        where: Operand = True,
    ) -> Expression:
        """``gw.prod`` of it."""
        node = tables.in_dtype("prod", self, dtype)
        return _by_name("prod", node, axis, keepdims=keepdims, initial=initial, where=where)

    def any(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``np.any`` of it."""
        return _by_name("any", self, axis, keepdims=keepdims)

    def all(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``np.all`` of it."""
        return _by_name("all", self, axis, keepdims=keepdims)

    def cumsum(self, axis: int | None = None, *, dtype: object = None) -> Expression:
        """``gw.cumsum`` of it."""
        return _by_name("cumsum", tables.in_dtype("cumsum", self, dtype), axis)

    def cumprod(self, axis: int | None = None, *, dtype: object = None) -> Expression:
        """``np.cumprod`` of it."""
        return _by_name("cumprod", tables.in_dtype("cumprod", self, dtype), axis)

    def clip(
        self,
        min: Operand | None = None,  # noqa: A002  (NumPy's names)
        max: Operand | None = None,  # noqa: A002
    ) -> Expression:
        """``gw.clip`` of it."""
        return _by_name("clip", self, min, max)

    def take(self, indices: Operand, axis: int | None = None) -> Expression:
        """``gw.take`` of it; without an axis of its elements, as NumPy does."""
        return _by_name("take", self if axis is not None else self.ravel(), indices, axis or 0)

    def repeat(self, repeats: int | Sequence[int], axis: int | None = None) -> Expression:
        """``gw.repeat`` of it."""
        return _by_name("repeat", self, repeats, axis)

    def diagonal(self, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Expression:
        """``gw.diagonal`` of it."""
        return _by_name("diagonal", self, offset, axis1, axis2)

    def trace(self, offset: int = 0) -> Expression:
        """``gw.trace`` of it."""
        return _by_name("trace", self, offset)

    def copy(self) -> Expression:
        """The expression itself, which does not change."""
        return self

    def conj(self) -> Expression:
        """The expression itself, which is real."""
        return self

    conjugate = conj

    @property
    def real(self) -> Expression:
        """The expression itself."""
        return self

    def ravel(self, order: str = "C") -> Expression:
        """``gw.ravel`` of it."""
        return _by_name("ravel", self, order)

    flatten = ravel

    def squeeze(self, axis: int | tuple[int, ...] | None = None) -> Expression:
        """``gw.squeeze`` of it."""
        return _by_name("squeeze", self, axis)

    def swapaxes(self, axis1: int, axis2: int) -> Expression:
        """``gw.swapaxes`` of it."""
        return _by_name("swapaxes", self, axis1, axis2)

    @property
    def mT(self) -> Expression:  # noqa: N802  (NumPy's name)
        """The last two axes in each other's place."""
        return _by_name("swapaxes", self, -1, -2)

    def astype(self, dtype: object) -> Expression:
        """The expression itself, for a float dtype: that of all numbers of a call is decided by the call.

        A mask becomes numbers, 1 and 0; numbers become a mask for ``bool``; row indices stay for an integer dtype.
        """
        found = dtype_of(dtype)
        if found is not None and found.kind in "iu" and self.attributes.get("dtype") == "int64":
            return self
        if found is not None and found.kind == "b":
            return self if self.is_mask else _by_name("not_equal", self, 0)
        if found is None or found.kind not in ("fiu" if self.is_mask else "f"):
            raise InvalidGraphError(f"{self!r} as {dtype!r:.64}: expressions are floats, of the dtype of the call")
        return _by_name("add", self, 0) if self.is_mask else self

    def __getitem__(self, index: object) -> Expression:
        """Entries as NumPy picks them: by integers, slices, ``...``, None, masks and arrays of integers."""
        return _by_name("getitem", self, index)

    # Comparisons, which give 1 where they hold and else 0, and what NumPy has for masks.

    def __eq__(self, other: object) -> Any:  # noqa: ANN401  (an expression, or False beside what is no number)
        return _by_name("equal", self, other) if is_operand(other) else NotImplemented

    def __ne__(self, other: object) -> Any:  # noqa: ANN401  (as above)
        return _by_name("not_equal", self, other) if is_operand(other) else NotImplemented

    __hash__ = Node.__hash__

    def __lt__(self, other: Operand) -> Expression:
        return _by_name("less", self, other)

    def __le__(self, other: Operand) -> Expression:
        return _by_name("less_equal", self, other)

    def __gt__(self, other: Operand) -> Expression:
        return _by_name("less", other, self)

    def __ge__(self, other: Operand) -> Expression:
        return _by_name("less_equal", other, self)

    def __and__(self, other: Operand) -> Expression:
        return _by_name("both", self, other)

    def __rand__(self, other: Operand) -> Expression:
        return _by_name("both", other, self)

    def __or__(self, other: Operand) -> Expression:
        return _by_name("either", self, other)

    def __ror__(self, other: Operand) -> Expression:
        return _by_name("either", other, self)

    def __xor__(self, other: Operand) -> Expression:
        return _by_name("one_of_both", self, other)

    def __rxor__(self, other: Operand) -> Expression:
        return _by_name("one_of_both", other, self)

    def __invert__(self) -> Expression:
        return _by_name("logical_not", self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self!r} is a scalar; it has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Expression]:
        return (self[index] for index in range(len(self)))

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> NoReturn:
            raise AttributeError(tables.absent(name), name=name)

    # NumPy's functions on expressions.

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **kwargs: object) -> Expression:
        built: Expression = tables.apply_ufunc(ufunc, method, inputs, kwargs)
        return built

    def __array_function__(
        self, func: Callable[..., object], types: object, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        return tables.apply_function(func, args, kwargs)


def _by_name(name: str, *operands: object, **options: object) -> Expression:
    built: Expression = tables.METHODS[name](*operands, **options)
    return built


def _rebuilt(nodes: Sequence[Row]) -> Expression:
    return from_rows(Expression, nodes)


_rebuilt.__module__ = "gradwire._expression"  # the name that pickles know it by, wherever it stands


def constant(value: ArrayLike) -> Expression:
    """A tensor that is part of the graph. Numbers and arrays in expressions become one by themselves.

    It is held in float64; what NumPy has beyond that, in its longer floats, is infinite.
    """
    return made_constant(value, np.float64)


def is_operand(value: object) -> bool:
    """Whether it is an expression, a number or an array of numbers."""
    return isinstance(value, Node | int | float | np.number | np.bool_ | np.ndarray | list | tuple)


def as_expression(value: Expression | ArrayLike) -> Expression:
    """The expression itself, or a constant of the number or array; of an input of integers these as numbers."""
    if not isinstance(value, Expression):
        return constant(value)
    return _as_numbers(value) if value.kind == "input" and "dtype" in value.attributes else value


def _as_numbers(indices: Expression) -> Expression:
    """The integers of an input as floats: another input, which calls feed from the same array."""
    attributes = {"per_example": indices.attributes["per_example"]}
    return Expression("input", indices.shape, name=indices.name + AS_NUMBERS, attributes=attributes)


def made_constant(value: ArrayLike, dtype: type[np.float64 | np.int64]) -> Expression:
    """A constant of this dtype."""
    array = held(value, dtype)
    mask = dtype is np.float64 and np.asarray(value).dtype == np.bool_
    return Expression("constant", array.shape, value=array, mask=mask)
