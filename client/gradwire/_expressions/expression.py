"""Expressions: what a loss is written with. Ordinary Python that builds a graph instead of computing."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, TypeAlias, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradwire._arrays import holds_integers
from gradwire._errors import InvalidGraphError

Shape = tuple[int, ...]
Operand: TypeAlias = "Expression | ArrayLike"

_SHOWN_NODES = 24
_SHOWN_DEPTH = 6
_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Expression:
    """A node of a graph: a source of data, or an operation on other expressions. Immutable.

    Made by ``gw.parameter``, ``gw.input``, ``gw.constant`` and the functions and operators on them. Its
    ``shape`` is that of ONE example. Shapes are checked when an expression is written, so a mistake is an
    ``InvalidGraphError`` at the line that makes it.
    """

    __slots__ = ("__weakref__", "attributes", "kind", "name", "operands", "shape", "value")

    def __init__(
        self,
        kind: str,
        shape: Shape,
        *,
        operands: tuple[Expression, ...] = (),
        attributes: Mapping[str, Any] = _NOTHING,
        name: str = "",
        value: NDArray[Any] | None = None,
    ) -> None:
        self.kind = kind
        """``parameter``, ``input``, ``constant``, or the name of an op."""
        self.shape = shape
        """Shape for one example."""
        self.operands = operands
        self.attributes = attributes
        """The other fields of the node's message, by their names in the contract."""
        self.name = name
        """Empty if it has none."""
        self.value = value
        """The array of a constant, float64, or int64 for row indices; None for other nodes."""

    # What it is.

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of one example."""
        return math.prod(self.shape)

    @property
    def T(self) -> Expression:  # noqa: N802  (NumPy's name)
        """The axes reversed."""
        return functions.transpose(self)

    def named(self, name: str) -> Expression:
        """A copy of the operation under a name, which errors, traces and outputs use."""
        if self.kind in ("parameter", "input"):
            raise InvalidGraphError(f'{self.kind} "{self.name}" has its name already', node=self.name)
        return Expression(
            self.kind,
            self.shape,
            operands=self.operands,
            attributes=self.attributes,
            name=checked_name(name),
            value=self.value,
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Copies and pickles as a list of nodes: a deep graph must not be a deep recursion."""
        nodes = list(postorder(self))
        places = {id(node): place for place, node in enumerate(nodes)}
        return _rebuilt, (
            [
                (
                    node.kind,
                    node.shape,
                    [places[id(o)] for o in node.operands],
                    dict(node.attributes),
                    node.name,
                    node.value,
                )
                for node in nodes
            ],
        )

    def __repr__(self) -> str:
        return f"<{_formula(self)}, shape {self.shape}>"

    def _repr_svg_(self) -> str | None:
        """The graph of a scalar as a picture, for notebooks; None, and so the text, where there is no picture."""
        from gradwire._graphs.graph import graph  # noqa: PLC0415  (as above)
        from gradwire._pictures.drawing import svg_of  # noqa: PLC0415  (it needs graphs, and they this class)

        return svg_of(graph(self)) if self.shape == () else None

    # Arithmetic.

    def __add__(self, other: Operand) -> Expression:
        return functions.add(self, other)

    def __radd__(self, other: Operand) -> Expression:
        return functions.add(other, self)

    def __sub__(self, other: Operand) -> Expression:
        return functions.subtract(self, other)

    def __rsub__(self, other: Operand) -> Expression:
        return functions.subtract(other, self)

    def __mul__(self, other: Operand) -> Expression:
        return functions.mul(self, other)

    def __rmul__(self, other: Operand) -> Expression:
        return functions.mul(other, self)

    def __truediv__(self, other: Operand) -> Expression:
        return functions.divide(self, other)

    def __rtruediv__(self, other: Operand) -> Expression:
        return functions.divide(other, self)

    def __pow__(self, exponent: float) -> Expression:
        return functions.power(self, exponent)

    def __rpow__(self, base: Operand) -> Expression:
        return functions.power(base, cast("float", self))  # it says what to write instead

    def __matmul__(self, other: Operand) -> Expression:
        return functions.matmul(self, other)

    def __rmatmul__(self, other: Operand) -> Expression:
        return functions.matmul(other, self)

    def __neg__(self) -> Expression:
        return functions.negative(self)

    def __pos__(self) -> Expression:
        return self

    def __abs__(self) -> Expression:
        return functions.abs(self)

    # Methods that NumPy's arrays have.

    def sum(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``gw.sum`` of it."""
        return functions.sum(self, axis, keepdims=keepdims)

    def mean(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``gw.mean`` of it."""
        return functions.mean(self, axis, keepdims=keepdims)

    def max(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``gw.max`` of it."""
        return functions.max(self, axis, keepdims=keepdims)

    def min(self, axis: int | tuple[int, ...] | None = None, *, keepdims: bool = False) -> Expression:
        """``gw.min`` of it."""
        return functions.min(self, axis, keepdims=keepdims)

    def reshape(self, *shape: int | Sequence[int]) -> Expression:
        """``gw.reshape`` of it; takes the sizes one by one or together."""
        return functions.reshape(self, shape[0] if len(shape) == 1 else cast("tuple[int, ...]", shape))

    def transpose(self, *axes: int | Sequence[int] | None) -> Expression:
        """``gw.transpose`` of it; takes the axes one by one or together."""
        return functions.transpose(self, axes[0] if len(axes) == 1 else cast("tuple[int, ...]", axes) or None)

    def dot(self, other: Operand) -> Expression:
        """``gw.dot`` of both."""
        return functions.dot(self, other)

    def __getitem__(self, index: object) -> Expression:
        """Rows: an integer, a slice, an array of integers or an integer expression, along the first axis."""
        if isinstance(index, Expression):
            return functions.take(self, index)
        if not self.shape:
            raise InvalidGraphError(f"{self!r} is a scalar; it has no entries", node=self.name or None)
        try:
            picked = np.arange(*index.indices(self.shape[0])) if isinstance(index, slice) else np.asarray(index)
        except Exception:  # noqa: BLE001  (whatever the caller's object raises)
            picked = None
        if picked is None or isinstance(index, tuple) or not holds_integers(picked):
            raise InvalidGraphError(
                f"{index!r} is no index of {self!r}; take rows by an integer, a slice or an array of integers "
                "(gw.take), and transpose or reshape first for another axis",
                node=self.name or None,
            )
        return functions.take(self, picked)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError(f"{self!r} is a scalar; it has no length")
        return self.shape[0]

    def __iter__(self) -> Iterator[Expression]:
        return (self[index] for index in range(len(self)))

    # What it is not.

    def __eq__(self, other: object) -> bool:
        """Identity, as for any object that is not data; with a number it would be nonsense."""
        return self is other if isinstance(other, Expression) else self._undecided("==")

    __hash__ = object.__hash__

    def __lt__(self, other: object) -> bool:
        return self._undecided("<")

    def __le__(self, other: object) -> bool:
        return self._undecided("<=")

    def __gt__(self, other: object) -> bool:
        return self._undecided(">")

    def __ge__(self, other: object) -> bool:
        return self._undecided(">=")

    def __bool__(self) -> bool:
        return self._undecided("bool()")

    def __float__(self) -> float:
        return self._undecided("float()")

    def _undecided(self, what: str) -> NoReturn:
        raise TypeError(
            f"{what} of {self!r}: an expression has no value until it is evaluated, so the graph cannot depend on it; "
            "write the choice with gw.maximum, gw.minimum or gw.relu"
        )

    # NumPy's functions on expressions.

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: object, **kwargs: object) -> Expression:
        from gradwire._expressions.numpy_functions import apply_ufunc  # noqa: PLC0415  (it needs the functions, and they this class)

        return apply_ufunc(ufunc, method, inputs, kwargs)

    def __array_function__(
        self, func: Callable[..., object], types: object, args: Sequence[object], kwargs: Mapping[str, object]
    ) -> object:
        from gradwire._expressions.numpy_functions import apply_function  # noqa: PLC0415  (as above)

        return apply_function(func, args, kwargs)

    def __array__(self, *_: object, **__: object) -> NoReturn:
        raise TypeError(f"{self!r} is no array; evaluate it with a client, or use gw's functions")


def postorder(*roots: Expression) -> Iterator[Expression]:
    """What the roots need and they themselves, each once, operands first and from left to right."""
    seen: set[int] = set()
    stack: list[Expression | None] = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node is None:
            # It stands on a node whose operands have come.
            yield cast("Expression", stack.pop())
        elif id(node) not in seen:
            seen.add(id(node))
            stack += (node, None, *node.operands[::-1])


def _rebuilt(nodes: Sequence[tuple[str, Shape, Sequence[int], Mapping[str, Any], str, Any]]) -> Expression:
    built: list[Expression] = []
    for kind, shape, operands, attributes, name, value in nodes:
        given = tuple(built[place] for place in operands)
        built.append(Expression(kind, shape, operands=given, attributes=attributes, name=name, value=value))
    return built[-1]


def checked_name(name: object) -> str:
    """The name, if a node may have it."""
    if not isinstance(name, str) or not name:
        raise InvalidGraphError(f"a name is a non-empty string; found {name!r:.64}")
    if not name.isprintable():
        raise InvalidGraphError(f"name {name!r} has unprintable characters; use printable ones", node=name)
    return name


def _formula(root: Expression) -> str:
    """The expression as nested calls, cut where it grows long."""
    budget = _SHOWN_NODES

    def text(node: Expression, depth: int) -> str:
        nonlocal budget
        budget -= 1
        if node.name:
            return node.name
        if node.value is not None:
            return f"{node.value:.6g}" if node.shape == () else f"constant{node.shape}"
        if depth == 0 or budget <= 0:
            return f"{node.kind}(...)"
        operands = [text(operand, depth - 1) for operand in node.operands[:4]]
        more = ["..."] if len(node.operands) > len(operands) else []
        return f"{node.kind}({', '.join([*operands, *more])})"

    # The root's own name says nothing about what it is.
    if root.operands:
        inner = [text(operand, _SHOWN_DEPTH) for operand in root.operands[:4]]
        more = ["..."] if len(root.operands) > len(inner) else []
        called = f"{root.kind}({', '.join([*inner, *more])})"
        return f"{root.name} = {called}" if root.name else called
    return f"{root.kind} {text(root, 1)}"


# The operators call the functions, and the functions make expressions: one of the two imports comes last.
from gradwire._expressions import functions  # noqa: E402
