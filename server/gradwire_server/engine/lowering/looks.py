"""Which values and gradients are looked at: those whose infinities and NaN show in no other one that is.

What an op computes from a number that is not finite is mostly not finite either (zero times infinity is NaN), so that a
look at the end of a chain tells of all of it, and few tensors are read again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.opcodes import FUNCTIONS, Opcode, marks
from gradwire_server.engine.lowering.question import Facts, Marks
from gradwire_server.engine.lowering.views import View

FORWARD = marks([
    Opcode.ADD, Opcode.MUL, Opcode.SUM, Opcode.MATMUL, Opcode.LOG, Opcode.SIN, Opcode.COS, Opcode.LOG1P, Opcode.CUMSUM,
    Opcode.SCATTER_ADD,
])  # fmt: skip
"""[opcodes], ops whose result is not finite where an operand is not. Others have limits at infinity."""

BACKWARD = marks(FUNCTIONS | {
    Opcode.ADD, Opcode.MUL, Opcode.POWER, Opcode.SUM, Opcode.MATMUL, Opcode.CUMSUM, Opcode.RESHAPE, Opcode.TRANSPOSE,
    Opcode.TAKE, Opcode.SLICE,
})  # fmt: skip
"""[opcodes], ops that pass back what is not finite to whatever operand wants a gradient. Others select."""

INPUT, ADD, MAX, POWER = int(Opcode.INPUT), int(Opcode.ADD), int(Opcode.MAX), int(Opcode.POWER)
RESHAPE, TRANSPOSE, STOP_GRADIENT = int(Opcode.RESHAPE), int(Opcode.TRANSPOSE), int(Opcode.STOP_GRADIENT)


class Looks:
    """Nodes of a graph that need no look.

    Args:
        graph: The graph.
        facts: What the question makes of it.
    """

    def __init__(self, graph: Checked, facts: Facts) -> None:
        own = graph.graph
        empty = np.array([0 in shape for shape in graph.shape_table])[graph.shape_ids]
        self.values, self.gradients = np.zeros((2, len(own)), np.bool_)
        """[nodes], whether the value shows in another one, and whether the gradient shows in that of an operand."""
        _survey(
            own.starts, own.operands, own.opcodes, own.numbers, facts.needed & ~empty, facts.active, facts.lanes, empty,
            FORWARD, BACKWARD, self.values, self.gradients,
        )  # fmt: skip


@compiled
def _survey(
    starts: NDArray[np.int64], operands: NDArray[np.int32], opcodes: NDArray[np.int8], numbers: NDArray[np.float64],
    computed: Marks, active: Marks, lanes: Marks, empty: Marks, forward: Marks, backward: Marks, values: Marks,
    gradients: Marks,
) -> None:  # fmt: skip
    """Mark what needs no look, from the last node to the first; all are [nodes] but the marks of opcodes."""
    for node in range(len(opcodes) - 1, -1, -1):
        if not computed[node]:
            continue
        opcode, arity = opcodes[node], starts[node + 1] - starts[node]
        view = opcode in (RESHAPE, TRANSPOSE, STOP_GRADIENT) or (arity == 1 and ADD <= opcode <= MAX)
        passes = backward[opcode] and (opcode != POWER or numbers[node] != 0)
        for operand in operands[starts[node] : starts[node + 1]]:
            if empty[operand]:
                continue
            # What examples share is computed even if there are none, but for what requests bring.
            together = lanes[node] == lanes[operand] or opcodes[operand] <= INPUT
            values[operand] |= values[node] if view else forward[opcode] and together
            gradients[node] |= passes and active[operand]


def ranges(views: Iterable[View]) -> Iterator[tuple[View, int]]:
    """Contiguous views as few ranges: where each begins, and how many elements it has."""
    begin, count = None, 0
    for view in sorted(views, key=lambda view: (view.buffer, view.place)):
        if begin is not None and (begin.buffer, begin.place + count) == (view.buffer, view.place):
            count += view.size
            continue
        if begin is not None:
            yield begin, count
        begin, count = view, view.size
    if begin is not None:
        yield begin, count
