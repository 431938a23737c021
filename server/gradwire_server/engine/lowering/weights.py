"""Weights whose gradients are worth a product over all examples at once, when all tiles are done.

Such a gradient is written once. Else each thread would have one of its own, for each chunk of tiles.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.graph import Input, Parameter
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering.question import Facts

WORTHWHILE = 1 << 14
"""Elements of a weight from which on it is."""


MOVED = (Opcode.RESHAPE, Opcode.TRANSPOSE, Opcode.TAKE, Opcode.STACK, Opcode.SLICE, Opcode.STOP_GRADIENT)
"""Ops whose values may be views."""


class Weights:
    """The products of a graph whose weights qualify: parameters that one product of lanes reads, as a matrix.

    Args:
        checked: The graph.
        facts: What the question makes of it.
        opcodes: [nodes].
    """

    def __init__(self, checked: Checked, facts: Facts, opcodes: NDArray[np.int8]) -> None:
        self._checked, self._facts, self._opcodes = checked, facts, opcodes
        self.products: dict[int, int] = {}
        """Products, with the operand that the weight is."""
        self.kept: set[int] = set()
        """Operations whose values are factors of gradients."""
        self.elements = 0
        """Elements of an example that are kept."""
        for node in np.flatnonzero(facts.needed & facts.lanes & (opcodes == Opcode.MATMUL)).tolist():
            self._look_at(node)

    def _look_at(self, node: int) -> None:
        checked = self._checked
        operands = checked.graph.operands_of(node)
        for weight, factor in (operands, reversed(operands)):
            root = self._root(weight)
            if root is None or not self._facts.lanes[factor] or len(checked.shape(weight)) != 2:
                continue
            source = isinstance(checked.graph.contents.get(factor), Input)
            own = self._opcodes[factor] not in MOVED
            if len(checked.shape(factor)) > 2 or not (source or (own and checked.shape_ids[factor])):
                continue
            self.products[node] = weight
            self.elements += checked.size(node)
            if not source and factor not in self.kept and len(checked.graph.operands_of(factor)) > 0:
                self.kept.add(factor)
                self.elements += checked.size(factor)

    def _root(self, node: int) -> int | None:
        """The large parameter that a node is, or transposes, if nobody else reads it."""
        graph = self._checked.graph
        while True:
            if not self._facts.active[node] or self._readers(node) != 1:
                return None
            if isinstance(graph.contents.get(node), Parameter):
                return node if self._checked.size(node) >= WORTHWHILE else None
            if self._opcodes[node] != Opcode.TRANSPOSE:
                return None
            [node] = graph.operands_of(node)

    def _readers(self, node: int) -> int:
        return int(np.count_nonzero(self._checked.graph.operands == node))
