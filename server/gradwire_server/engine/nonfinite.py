"""Reports of infinities and NaN: which node made the first one, for which example, from what."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from math import isfinite

import numpy as np

from gradwire_server.engine import culprits
from gradwire_server.engine.executor import Values
from gradwire_server.engine.graph import Array, Shape
from gradwire_server.engine.kernels.finite import EXPONENTS, all_finite
from gradwire_server.engine.ops.op import Inside
from gradwire_server.engine.program import Program
from gradwire_server.engine.shapes import first_true, lanes_first, one_lane


class Phase(StrEnum):
    """Where a non-finite number arose.

    The first one counts, in the order in which a graph is read: values in ascending order of nodes, then backward
    steps in descending order, then the sums over examples in descending order. Of several examples the lowest
    counts. In what order an executor goes, and how examples are reduced, changes nothing about that: what examples
    share it may differentiate last and once for all of them, but here it has its place among the other nodes.
    """

    VALUE = "value"
    """As the value of a node."""
    GRADIENT = "gradient"
    """In the backward step of a node, whose value and gradient were finite."""
    REDUCTION = "reduction"
    """In the sum over examples."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OperandValue:
    """One element of an operand."""

    node: int
    name: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class NonFinite:
    """The first non-finite value or gradient of a computation."""

    phase: Phase
    node: int
    """Lowest node for values, highest for gradients and sums."""
    name: str
    """The node's label."""
    example: int | None
    """Lowest example, or None if the node depends on none or the phase is REDUCTION."""
    position: Shape
    """First such element in the tensor of one example: the node's value, the operand's gradient or the sum."""
    value: float
    """The element; in what examples share it may be that of their sum, an infinity where one example has NaN."""
    operands: tuple[OperandValue, ...]
    """What the element was made from; none for sources and for REDUCTION, which sums over many."""
    inside: str = ""
    """The operation inside the node that made it, if there is one; then there are no operands."""

    @property
    def rank(self) -> tuple[object, ...]:
        """Sorts reports: the least one is the one to give."""
        order = self.node if self.phase is Phase.VALUE else -self.node
        return list(Phase).index(self.phase), order, -1 if self.example is None else self.example

    @property
    def message(self) -> str:
        """One sentence for people."""
        where = "" if self.example is None else f" of example {self.example}"
        operands = ", ".join(f"{operand.name} = {operand.value:g}" for operand in self.operands[:4])
        if self.inside:
            step = "the backward step of " if self.phase is Phase.GRADIENT else ""
            return f'node "{self.name}": {step}{self.inside} gives {self.value:g}{where}'
        what = {
            Phase.VALUE: f'node "{self.name}" has the value {self.value:g}',
            Phase.GRADIENT: f'the backward step of node "{self.name}" gives a gradient of {self.value:g}',
            Phase.REDUCTION: f'the sum over examples at node "{self.name}" is {self.value:g}',
        }[self.phase]
        return f"{what} at position {self.position}{where}" + (f" from {operands}" if operands else "")


def is_finite(array: Array) -> bool:
    """Whether every float is a finite number. To be called where overflow is no warning."""
    if array.flags.c_contiguous:
        unsigned, exponent = EXPONENTS[array.dtype]
        return bool(all_finite(array.reshape(-1).view(unsigned), exponent))
    # A sum keeps infinities and NaN, and takes no memory; a finite one says it all.
    return isfinite(np.add.reduce(array, axis=None)) or bool(np.isfinite(array).all())


def first(a: NonFinite | None, b: NonFinite | None) -> NonFinite | None:
    """The one to report."""
    if a is None or b is None:
        return a or b
    return min(a, b, key=lambda report: report.rank)


def first_bad(array: Array) -> tuple[Shape, int] | None:
    """Position and lane of the first non-finite element, lowest lane first; None if there is none."""
    if array.dtype == np.int64 or is_finite(array):
        return None
    found = first_true(lanes_first(~np.isfinite(array)))
    return None if found is None else (found[1:], found[0])


def bad_value(program: Program, nodes: Iterable[int], values: Values, start: int) -> NonFinite | None:
    """The report of the lowest of ``nodes``, in ascending order, whose value is not finite.

    Examples count from ``start``.
    """
    for node in nodes:
        own = program.instructions[node]
        inside = own and own.op.bad_value(own.step, [values[operand] for operand in own.operands])
        if inside:
            return report_inside(program, Phase.VALUE, node, inside, start + inside.lane)
        found = first_bad(values[node])
        if found is not None:
            position, lane = found
            instruction = program.instructions[node]
            operands = [one_lane(values[operand], lane) for operand in program.operands(node)]
            shown = (
                culprits.of_value(instruction, operands, one_lane(values[node], lane), position) if instruction else []
            )
            example = start + lane if program.per_example[node] else None
            return report(program, Phase.VALUE, node, values[node], found, example, shown)
    return None


def report_inside(program: Program, phase: Phase, node: int, inside: Inside, example: int) -> NonFinite:
    """A report on an operation inside a node."""
    return NonFinite(
        phase=phase,
        node=node,
        name=program.label(node),
        example=example if program.per_example[node] else None,
        position=inside.position,
        value=inside.value,
        operands=(),
        inside=inside.description,
    )


def report(
    program: Program,
    phase: Phase,
    node: int,
    array: Array,
    found: tuple[Shape, int],
    example: int | None = None,
    operands: Sequence[float | None] = (),
) -> NonFinite:
    """A report on the element ``found``, a position and a lane, of ``array``.

    ``operands`` are those of ``node``; one that is None has none to show.
    """
    position, lane = found
    return NonFinite(
        phase=phase,
        node=node,
        name=program.label(node),
        example=example,
        position=position,
        value=float(array[(*position, lane)]),
        operands=tuple(
            OperandValue(node=operand, name=program.label(operand), value=value)
            for operand, value in zip(program.operands(node), operands, strict=False)
            if value is not None
        ),
    )
