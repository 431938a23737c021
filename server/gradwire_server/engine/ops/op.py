"""What an op is: one entry that says everything the engine needs to know of it.

Values carry the axis of examples ("lanes") last: a node of shape S is an array (*S, lanes), with one lane if
it depends on no example. So NumPy's broadcasting, which aligns last axes, is that of one example.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import BETWEEN_CHECKPOINTS, Checkpoint, checked, unhurried
from gradwire_server.engine.graph import Array, Shape, Ties
from gradwire_server.engine.kernels.opcodes import Opcode
from gradwire_server.engine.shapes import size
from gradwire_server.engine.tape import Tape

T = TypeVar("T")

Attributes = Mapping[str, Any]

BETWEEN_ELEMENTS = 1 << 24
"""Elements of operands that an op goes through without asking whether anybody still waits."""


class OperandError(Exception):
    """Wrong use of an op; the message says what was found and what was expected.

    ``field`` is the wrong field of the node, such as ``axes[1]``, or empty for the node as a whole.
    """

    def __init__(self, message: str, field: str = "") -> None:
        super().__init__(message)
        self.field = field


class IndexRangeError(Exception):
    """A row index that is out of range, found while computing."""

    def __init__(self, position: Shape, lane: int, index: int, rows: int) -> None:
        super().__init__(position, lane, index, rows)
        self.position = position
        self.lane = lane
        self.index = index
        self.rows = rows


class Spec(NamedTuple):
    """What is known of an operand before there are numbers."""

    shape: Shape
    integer: bool = False
    constant: Array | None = None
    """Its value, if it is a constant of the graph."""


class Step(NamedTuple):
    """The static side of one application of an op."""

    attributes: Attributes
    """As the op's ``infer`` normalised them."""
    ties: Ties
    prepared: Any = None
    """What the op's ``prepare`` made of the attributes."""
    written: frozenset[int] = frozenset()
    """Operands that get their whole gradient from this step: what their targets hold is overwritten."""
    reached: NDArray[np.bool_] | None = None
    """Of an op with operations inside, for each position whether it gets a gradient; None if all do."""
    checkpoint: Checkpoint = unhurried
    """What to call between the parts of a step that takes long."""

    def over(self, arrays: Iterable[T], out: Array) -> Iterable[T]:
        """Arrays that each have up to as many elements as ``out``, with checkpoints."""
        if self.checkpoint is unhurried:
            return arrays
        return checked(arrays, self.checkpoint, max(1, min(BETWEEN_CHECKPOINTS, BETWEEN_ELEMENTS // max(1, out.size))))


class Looked(NamedTuple):
    """A contribution of an op that has looked at the gradients of operations inside."""

    contribution: Array
    finite: bool
    """Whether they are finite."""


Contribution = Array | Looked | bool | None
"""What an op adds to the gradient of an operand, None where none is wanted; or, if it wrote that gradient itself,
whether all of it is finite."""


def _streamed(step: Step, shapes: Sequence[Shape], out: Shape) -> int:
    return size(out) + sum(map(size, shapes))


Scratch = Callable[[Step, Sequence[Shape], Shape, Sequence[bool]], int]


def scratch_arrays(count: int) -> Scratch:
    """Room for so many arrays, each as large as the largest operand or the result."""
    return lambda step, shapes, out, own: count * max(size(out), *map(size, shapes))


LANES_AT_ONCE, ELEMENTS_AT_ONCE = 32, 1 << 17
"""Lanes that an op takes at once in any case, and elements in temporary arrays for which it takes more."""


def lanes_at_once(elements: int, lanes: int) -> int:
    """How many of the lanes an op takes at once that goes through them in parts, if each takes so many elements."""
    return min(lanes, max(LANES_AT_ONCE, ELEMENTS_AT_ONCE // max(1, elements)))


def _never(shapes: Sequence[Shape], slot: int) -> bool:
    return False


_FEW_ARRAYS = scratch_arrays(4)


@dataclass(frozen=True, slots=True)
class Inside:
    """An operation inside a node that made something that is not finite."""

    description: str
    """Which operation, and of what."""
    value: float
    lane: int = 0
    position: Shape = ()
    """Of the first element of the node's value that it is, if it is any."""


@dataclass(frozen=True, kw_only=True)
class Op:
    """An op of the table.

    ``infer(specs, attributes)`` gives the shape of the result and the attributes in normal form, or raises
    OperandError. ``forward(step, operands, out)`` writes the value. ``vjp(step, adjoint, operands, out, targets)``
    (vector-Jacobian product) gives, for each operand, the gradient times the local derivative, in the
    shape of the result or of the operand; the caller sums over what was broadcast. ``targets`` holds, for
    each operand, the array its gradient is added to, or None where none is wanted; the op yields
    None there, or whatever costs nothing. Into the targets of operands in ``step.written`` it may write the gradient
    itself, and yield whether all of it is finite.
    """

    name: str
    summary: str
    """The value, as a formula."""
    derivative: str
    """The local derivative, as a formula."""
    min_operands: int
    max_operands: int | None
    """None: any number."""
    infer: Callable[[Sequence[Spec], Attributes], tuple[Shape, Attributes]]
    forward: Callable[[Step, Sequence[Array], Array], None]
    vjp: Callable[[Step, Array, Sequence[Array], Array, Sequence[Array | None]], Iterable[Contribution]]
    elementwise: bool
    """Whether an element of the result reads the elements at its own place (after broadcasting)."""
    index_operands: frozenset[int] = frozenset()
    """Which operands are row indices."""
    moves: bool = False
    """Whether each element of the result is one of the first operand, and which one the other operands say."""
    strided: bool = False
    """Whether the op reads operands with lanes at a stride as fast as contiguous ones."""
    telling: bool = False
    """Whether operands cannot hold what is not finite if the result, which has elements, does not: each element of an
    operand is a term, or a factor of one, of some sum. (Zero times infinity is NaN.)"""
    work: Callable[[Step, Sequence[Shape], Shape], int] = _streamed
    """Roughly how many elementary steps a lane takes, for operands and a result of these shapes."""
    kernel: Callable[[Step, int], tuple[Opcode, float] | None] | None = None
    """What the compiled kernel does for an application to so many operands, and its exponent; more than two are
    taken two by two, from the left. None where NumPy does it."""
    scratch: Scratch = _FEW_ARRAYS
    """How many elements a lane takes in temporary arrays, at most, for operands and a result of these shapes. The third
    argument says for each operand whether each lane has its own, or makes a gradient of its own for it."""
    in_parts: Callable[[Step], tuple[int, int]] = lambda _: (0, 0)
    """Elements in temporary arrays that each of the ``lanes_at_once`` takes besides, and those of a report."""
    direct: Callable[[Sequence[Shape], int], bool] = _never
    """Whether, for operands of these shapes, each lane's gradient of an operand that all share is written with its lane
    first, as a result has it, as fast as with its lane last, and without temporary arrays."""
    packed: Callable[[Attributes], tuple[int, int]] = lambda _: (0, 0)
    """How many operations and arguments an application has inside, which count as nodes and operands do."""
    prepare: Callable[[Attributes, Sequence[Shape]], Any] = lambda *_: None
    """What to work out once, from the attributes in normal form, for operands of these shapes."""
    tape: Callable[[Step], Tape] | None = None
    """What the kernel of tapes does for an application; None where NumPy does it."""
    bad_value: Callable[[Step, Sequence[Array]], Inside | None] = lambda *_: None
    """The first operation inside whose value is not finite, given operands."""
    bad_gradient: Callable[[Step, Array, Sequence[Array]], Inside | None] = lambda *_: None
    """The first backward step inside that makes a gradient that is not finite, given the node's and operands."""
    reach: Callable[[Step, NDArray[np.bool_]], tuple[NDArray[np.bool_], NDArray[np.bool_]]] | None = None
    """Which positions inside, and which elements of the result, depend on these elements of operands, which are given
    one operand after another."""
    inner: Callable[[Step], int] = lambda _: 0
    """How many elements a lane takes for values inside an application."""
