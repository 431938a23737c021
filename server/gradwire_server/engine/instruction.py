"""Instructions: an op of the table, applied to nodes of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol, TypeVar

from gradwire_server.engine.graph import Array, Shape
from gradwire_server.engine.ops import Op, Step

T_co = TypeVar("T_co", covariant=True)


@dataclass(frozen=True, slots=True)
class View:
    """An array (*shape, lanes), read or written as another one without being copied."""

    shape: Shape
    """Of the view, for one example."""
    axes: tuple[int, ...] | None = None
    """Where they are taken from, if the array is transposed."""

    def of(self, array: Array) -> Array:
        """The view of an array whose examples are contiguous each."""
        if self.axes is not None:
            return array.transpose(*self.axes, len(self.axes))
        return array.reshape(*self.shape, array.shape[-1])


class ByNode(Protocol[T_co]):
    """Something for each node."""

    def __getitem__(self, node: int, /) -> T_co:
        """That of a node."""


class Instruction(NamedTuple):
    """One step of a plan: an op, applied to nodes, giving a node."""

    node: int
    op: Op
    operands: tuple[int, ...]
    step: Step
    work: int
    """Elementary steps a lane takes."""
    views: tuple[View | None, ...] = ()
    """As what it takes its operands, and last its result; None, and empty, where as they are."""

    def taken(self, arrays: ByNode[Any]) -> list[Any]:
        """Arrays of the operands, or None for those that have none, as the op takes them."""
        operands = [arrays[operand] for operand in self.operands]
        if not self.views:
            return operands
        return [a if a is None or v is None else v.of(a) for a, v in zip(operands, self.views, strict=False)]

    def result(self, array: Array) -> Array:
        """An array of the result, as the op takes it."""
        view = self.views[-1] if self.views else None
        return array if view is None else view.of(array)

    def shapes(self, shapes: Sequence[Shape]) -> list[Shape]:
        """Shapes of the operands, as the op takes them."""
        operands = [shapes[operand] for operand in self.operands]
        if not self.views:
            return operands
        return [shape if v is None else v.shape for shape, v in zip(operands, self.views, strict=False)]


def passes(instruction: Instruction, active: Sequence[bool]) -> bool:
    """Whether the instruction passes a gradient on to an operand."""
    return active[instruction.node] and any(active[operand] for operand in instruction.operands)
