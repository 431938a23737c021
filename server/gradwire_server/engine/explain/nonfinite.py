"""Reports of infinities and NaN: which node made the first one, for which example, from what."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from gradwire_server.engine.graph.graph import Shape


class Phase(StrEnum):
    """Where a number arose that is not finite.

    The lowest example counts, and there the first number in the order in which a graph is read: values in ascending
    order of nodes, then backward steps in descending order. Sums over examples come last.
    """

    VALUE = "value"
    """The value of a node."""
    GRADIENT = "gradient"
    """What the backward step of a node gives, whose value and gradient were finite."""
    REDUCTION = "reduction"
    """The sum over examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperandValue:
    """One element of an operand."""

    node: int
    """Index as sent."""
    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NonFinite:
    """The first value or gradient of a computation that is not finite."""

    phase: Phase
    node: int
    """Index as sent."""
    name: str
    """The node's label."""
    example: int | None
    """None if the node depends on no example or the phase is REDUCTION."""
    position: Shape
    """First such element in the tensor of one example: the node's value, the operand's gradient or the sum."""
    value: float
    operands: tuple[OperandValue, ...] = ()
    """What the element was made from; none for sources, packed operations and sums over examples."""
    inside: str = ""
    """The packed operation that made it, if it was one."""

    @property
    def message(self) -> str:
        """One sentence for people."""
        where = "" if self.example is None else f" of example {self.example}"
        if self.inside:
            step = "the backward step of " if self.phase is Phase.GRADIENT else ""
            return f'node "{self.name}": {step}{self.inside} gives {self.value:g}{where}'
        operands = ", ".join(f"{operand.name} = {operand.value:g}" for operand in self.operands[:4])
        what = {
            Phase.VALUE: f'node "{self.name}" has the value {self.value:g}',
            Phase.GRADIENT: f'the backward step of node "{self.name}" gives a gradient of {self.value:g}',
            Phase.REDUCTION: f'the sum over examples at node "{self.name}" is {self.value:g}',
        }[self.phase]
        return f"{what} at position {self.position}{where}" + (f" from {operands}" if operands else "")
