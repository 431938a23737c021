"""Instructions: an op of the table, applied to nodes of a graph."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from gradwire_server.engine.ops import Op, Step


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One step of a plan: an op, applied to nodes, giving a node."""

    node: int
    op: Op
    operands: tuple[int, ...]
    step: Step
    work: int
    """Elementary steps a lane takes."""


def passes(instruction: Instruction, active: Sequence[bool]) -> bool:
    """Whether the instruction passes a gradient on to an operand."""
    return active[instruction.node] and any(active[operand] for operand in instruction.operands)
