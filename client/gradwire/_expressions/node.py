"""Nodes of a graph: what an expression holds, whatever is written with it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any, NoReturn, Self, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from gradwire._arrays import MAX_INDEX, holds_integers
from gradwire._errors import InvalidGraphError, ValueNeededError

N = TypeVar("N", bound="Node")
Shape = tuple[int, ...]
Row: TypeAlias = Sequence[Any]
"""A node in a list: kind, shape, places of its operands, attributes, name, value; of a source that is a mask True."""

_SHOWN_NODES = 24
_SHOWN_DEPTH = 6
_NOTHING: Mapping[str, Any] = MappingProxyType({})

_MASKS = frozenset({"less", "equal"})
_KEEPING: Mapping[str, slice] = {
    **dict.fromkeys(("max", "mul", "concatenate"), slice(None)),
    **dict.fromkeys(("reshape", "transpose", "slice", "take", "reduce_max", "stop_gradient"), slice(1)),
    "select": slice(1, 3),
}
"""Ops that make masks of masks, with the operands that must be some."""


_STEP = (
    "a step has no derivative: do it to constants before the call, to results after it, or give it as an input; gw.sin "
    "and gw.cos say what is periodic"
)


class Node:
    """A node of a graph: a source of data, or an operation on other nodes. Immutable."""

    __slots__ = ("__weakref__", "attributes", "is_mask", "kind", "name", "operands", "shape", "value")

    def __init__(
        self,
        kind: str,
        shape: Shape,
        *,
        operands: tuple[Node, ...] = (),
        attributes: Mapping[str, Any] = _NOTHING,
        name: str = "",
        value: NDArray[Any] | None = None,
        mask: bool = False,
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
        self.is_mask: bool = (
            mask
            or kind in _MASKS
            or (kind in _KEEPING and all(operand.is_mask for operand in operands[_KEEPING[kind]]))
        )
        """Whether it is 1 or 0 because something holds or does not, which NumPy has booleans for."""

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements of one example."""
        return math.prod(self.shape)

    def named(self, name: str) -> Self:
        """A copy of the operation under a name, which errors, traces and outputs use."""
        if self.kind in ("parameter", "input"):
            raise InvalidGraphError(f'{self.kind} "{self.name}" has its name already', node=self.name)
        return type(self)(
            self.kind,
            self.shape,
            operands=self.operands,
            attributes=self.attributes,
            name=checked_name(name),
            value=self.value,
            mask=self.is_mask,
        )

    def __repr__(self) -> str:
        return f"<{_formula(self)}, shape {self.shape}>"

    # What it is not.

    def __bool__(self) -> bool:  # noqa: PLE0304  (it raises)
        self._undecided("bool()", "write a choice with gw.where(condition, x, y), and `and`, `or`, `not` as &, |, ~")

    def __float__(self) -> float:
        self._undecided("float()", "use np's or gw's functions in place of math's, and a client to evaluate it")

    def __int__(self) -> int:
        self._undecided(
            "int()", "give whole numbers as constants of Python, or row indices as gw.input(..., dtype='int64')"
        )

    def __index__(self) -> int:  # noqa: PLE0305  (it raises)
        self._undecided("an index", "give whole numbers as constants of Python, and pick entries with x[i] or gw.take")

    def __complex__(self) -> complex:
        self._undecided("complex()", "use np's or gw's functions in place of cmath's")

    def __round__(self, digits: int | None = None) -> int:
        self._undecided("round()", _STEP)

    def __mod__(self, other: object) -> NoReturn:
        self._undecided("%", _STEP)

    def __floordiv__(self, other: object) -> NoReturn:
        self._undecided("//", _STEP)

    def __divmod__(self, other: object) -> NoReturn:
        self._undecided("divmod()", _STEP)

    __rmod__, __rfloordiv__, __rdivmod__ = __mod__, __floordiv__, __divmod__

    def __contains__(self, value: object) -> bool:
        self._undecided("in", "write gw.max(x == value), which is 1 where it is in")

    def __setitem__(self, index: object, value: object) -> NoReturn:
        raise InvalidGraphError(
            f"an entry of {self!r} is set: expressions do not change; write gw.where(mask, value, x), gw.concatenate, "
            "or add gw.scatter_add(value, indices, size)"
        )

    def item(self) -> float:
        """Refused: an expression has no value; NumPy's name."""
        self._undecided("item()", "evaluate it with a client")

    def tolist(self) -> list[float]:
        """Refused: an expression has no value; NumPy's name."""
        self._undecided("tolist()", "evaluate it with a client")

    def __array__(self, *_: object, **__: object) -> NoReturn:
        self._undecided(
            "an array", "evaluate it with a client, stack expressions with np.stack, or use np's and gw's functions"
        )

    def _undecided(self, what: str, instead: str) -> NoReturn:
        raise ValueNeededError(
            f"{what} of {self!r}: an expression has no value until it is evaluated, so the graph cannot depend on it; "
            f"{instead}"
        )


def postorder(*roots: N) -> Iterator[N]:
    """What the roots need and they themselves, each once, operands first and from left to right."""
    seen: set[int] = set()
    stack: list[N | None] = list(reversed(roots))
    while stack:
        node = stack.pop()
        if node is None:
            # It stands on a node whose operands have come.
            yield cast("N", stack.pop())
        elif id(node) not in seen:
            seen.add(id(node))
            stack += (node, None, *cast("tuple[N, ...]", node.operands[::-1]))


def rows(root: Node) -> list[Row]:
    """The node and all that it needs as a list, operands first: a deep graph must not be a deep recursion."""
    nodes = list(postorder(root))
    places = {id(node): place for place, node in enumerate(nodes)}
    return [
        (
            node.kind,
            node.shape,
            [places[id(o)] for o in node.operands],
            dict(node.attributes),
            node.name,
            node.value,
            # What is made of others is a mask or not by itself.
            *([True] if node.is_mask and not node.operands else []),
        )
        for node in nodes
    ]


def from_rows(made: type[N], given: Sequence[Row]) -> N:
    """The node that a list ends with, as ``rows`` has written it, all nodes of one class."""
    built: list[N] = []
    for kind, shape, operands, attributes, name, value, *mask in given:
        own = tuple(built[place] for place in operands)
        built.append(made(kind, shape, operands=own, attributes=attributes, name=name, value=value, mask=bool(mask)))
    return built[-1]


def checked_name(name: object) -> str:
    """The name, if a node may have it."""
    if not isinstance(name, str) or not name:
        raise InvalidGraphError(f"a name is a non-empty string; found {name!r:.64}")
    if not name.isprintable():
        raise InvalidGraphError(f"name {name!r} has unprintable characters; use printable ones", node=name)
    return name


def held(value: ArrayLike, dtype: type[np.float64 | np.int64]) -> NDArray[Any]:
    """The array of a constant, which nobody can write to."""
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
    return array


def _formula(root: Node) -> str:
    """The expression as nested calls, cut where it grows long."""
    budget = _SHOWN_NODES

    def text(node: Node, depth: int) -> str:
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
