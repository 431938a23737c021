"""What is asked of a graph: which nodes are needed, which get a gradient, and what depends on examples."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.opcodes import ELEMENTWISE, Opcode, marks
from gradwire_server.engine.graph.traversal import ancestors, descendants

Marks = NDArray[np.bool_]

_ELEMENTWISE = marks(ELEMENTWISE)


@dataclass(frozen=True, slots=True)
class Question:
    """A choice of gradients and outputs."""

    wrt: tuple[int, ...]
    """Sources to differentiate in."""
    outputs: tuple[int, ...]
    """Nodes whose values are asked for."""
    separate: bool
    """Whether each example has gradients of its own."""
    deferred: bool = False
    """Whether gradients of large weights are computed from all examples at once, when all tiles are done."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a question makes of a graph; all [nodes]."""

    needed: Marks
    """Whether the loss or an output depends on the node."""
    active: Marks
    """Whether the node passes a gradient on."""
    lanes: Marks
    """Whether each example has its own value."""
    scalar: Marks
    """Whether the node is an elementwise operation on scalars that is needed."""


def scalar_operations(checked: Checked) -> Marks:
    """Elementwise operations on scalars; one operand of add, mul and max is the operation itself."""
    opcodes = checked.graph.opcodes
    arities = np.diff(checked.graph.starts)
    elementwise = _ELEMENTWISE[opcodes]
    alias = (arities == 1) & (opcodes <= Opcode.MAX)
    scalar: Marks = elementwise & (checked.shape_ids == 0) & ~alias
    return scalar


def facts_of(checked: Checked, question: Question) -> Facts:
    """What is to be done about each node."""
    graph = checked.graph
    needed = np.zeros(len(graph), np.bool_)
    needed[[graph.loss, *question.outputs]] = True
    ancestors(graph.starts, graph.operands, needed)
    active = checked.active(question.wrt)
    scalar = scalar_operations(checked) & needed
    lanes = checked.per_example.copy()
    if question.separate and lanes[graph.loss]:
        # Swarms have one value for each lane, so that gradients of each lane need values of each.
        lanes |= (scalar | (graph.opcodes == Opcode.STACK)) & active
        descendants(graph.starts, graph.operands, lanes)
    return Facts(needed, active, lanes, scalar)
