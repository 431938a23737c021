"""Which nodes have the value of an earlier one, whatever a request brings: they are made in the same way of the same.

What is computed on the way is not counted twice either: of a sum of many, its partial sums.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from gradwire_server.engine.graph import Array, Shape
from gradwire_server.engine.instruction import Instruction
from gradwire_server.engine.kernels.opcodes import Opcode

COMPARED = 1 << 10
"""Elements of a constant that is compared with others."""


class Sharing:
    """What is known of the nodes so far; nodes come in topological order.

    Args:
        first: For nodes that have the value of an earlier one, the first of those.
    """

    def __init__(self, first: Mapping[int, int]) -> None:
        self.first = dict(first)
        """As given, and those found here."""
        self.repeated: set[int] = set()
        """Those found here."""
        self._seen: dict[object, int] = {}

    def operation(self, node: int, operands: tuple[int, ...], opcode: Opcode, exponent: float) -> None:
        """Note a node that the kernel makes."""
        self._note(node, (opcode, exponent, *self._originals(operands)))

    def instruction(self, i: Instruction, shape: Shape) -> None:
        """Note a node of this shape that NumPy makes."""
        key = (i.op.name, self._originals(i.operands), shape, i.views, tuple(i.step.attributes.items()))
        try:
            self._note(i.node, key)
        except TypeError:
            return  # An attribute is an array or the like.

    def _originals(self, nodes: tuple[int, ...]) -> tuple[int, ...]:
        first = self.first
        return tuple([first.get(node, node) for node in nodes]) if first else nodes

    def _note(self, node: int, key: object) -> None:
        found = self._seen.setdefault(key, node)
        if found != node:
            self.first[node] = found
            self.repeated.add(node)


def equal_constants(constants: Iterable[tuple[int, Array]]) -> dict[int, int]:
    """For small constants, given by node, that are equal to an earlier one, the first of those."""
    seen: dict[object, int] = {}
    first: dict[int, int] = {}
    for index, value in constants:
        if value.size <= COMPARED:
            found = seen.setdefault((value.shape, value.dtype, value.tobytes()), index)
            if found != index:
                first[index] = found
    return first
