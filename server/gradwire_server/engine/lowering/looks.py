"""Which values and gradients are looked at: those whose infinities and NaN show in no other one that is.

What an op computes from a number that is not finite is mostly not finite either (zero times infinity is NaN), so that a
look at the end of a chain tells of all of it, and few tensors are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np

from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering.question import Facts, Marks
from gradwire_server.engine.lowering.views import View

OPCODES = max(Opcode) + 1


def _marks(*opcodes: Opcode) -> Marks:
    return np.array([opcode in opcodes for opcode in range(OPCODES)])


FORWARD = _marks(Opcode.ADD, Opcode.MUL, Opcode.SUM, Opcode.MATMUL, Opcode.LOG)
"""[opcodes], ops whose result is not finite where an operand is not. Others have limits at infinity."""

BACKWARD = _marks(
    Opcode.ADD, Opcode.MUL, Opcode.SUM, Opcode.MATMUL, Opcode.SIGMOID, Opcode.EXP, Opcode.LOG, Opcode.TANH,
    Opcode.SOFTPLUS, Opcode.POWER, Opcode.RESHAPE, Opcode.TRANSPOSE, Opcode.TAKE,
)  # fmt: skip
"""[opcodes], ops that pass back what is not finite to whatever operand wants a gradient. Others select."""

VIEWS = _marks(Opcode.RESHAPE, Opcode.TRANSPOSE)
"""[opcodes], ops whose result may have no storage of its own."""


class Looks:
    """Nodes of a graph that need no look.

    Args:
        graph: The graph.
        facts: What the question makes of it.
    """

    def __init__(self, graph: Checked, facts: Facts) -> None:
        own = graph.graph
        arities = np.diff(own.starts)
        owners = np.repeat(np.arange(len(own)), arities)
        operands = own.operands
        sizes = np.array([int(0 not in shape) for shape in graph.shape_table], np.bool_)[graph.shape_ids]
        there = facts.needed[owners] & sizes[owners] & sizes[operands]
        source = own.opcodes <= Opcode.INPUT
        # What examples share is computed even if there are none, but for what requests bring.
        together = (facts.lanes[owners] == facts.lanes[operands]) | source[operands]
        views = VIEWS[own.opcodes] | ((arities == 1) & (own.opcodes >= Opcode.ADD) & (own.opcodes <= Opcode.MAX))
        tells = there & together & FORWARD[own.opcodes[owners]] & ~views[owners]
        self.values: Marks = np.zeros(len(own), np.bool_)
        """[nodes], whether the value shows in another one."""
        self.values[operands[tells]] = True
        for node in np.flatnonzero(views & facts.needed)[::-1]:
            self.values[operands[own.starts[node]]] |= self.values[node] and sizes[node]
        no_power = (own.opcodes == Opcode.POWER) & (own.numbers == 0)
        tells = there & facts.active[operands] & BACKWARD[own.opcodes[owners]] & ~no_power[owners]
        self.gradients: Marks = np.zeros(len(own), np.bool_)
        """[nodes], whether the gradient shows in that of an operand."""
        self.gradients[owners[tells]] = True


def ranges(views: Iterable[View]) -> Iterator[tuple[View, int]]:
    """Contiguous views of one buffer as few ranges: where each begins, and how many elements it has."""
    begin, count = None, 0
    for view in sorted(views, key=lambda view: view.place):
        if begin is not None and begin.place + count == view.place:
            count += view.size
            continue
        if begin is not None:
            yield begin, count
        begin, count = view, view.size
    if begin is not None:
        yield begin, count
