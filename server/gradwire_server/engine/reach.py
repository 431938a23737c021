"""Which elements of nodes get a gradient: those that lead from a differentiated source to the loss.

That is a matter of nodes, but for what is packed: some results of a swarm of scalars may need a differentiated source
and others none. Written with a node for each operation the others had no gradient, so whatever is added to theirs
counts for nothing, finite or not.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableSequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph import Array, Constant
from gradwire_server.engine.instruction import ByNode, Instruction

if TYPE_CHECKING:
    from gradwire_server.engine.program import Program


class Reach:
    """What is known of the nodes so far; they come in topological order.

    Args:
        program: The graph.
        active: For each node, whether any of its elements gets a gradient.
    """

    def __init__(self, program: Program, active: MutableSequence[bool]) -> None:
        self._program = program
        self._active = active
        self.inside: dict[int, NDArray[np.bool_]] = {}
        """By node, for each position inside whether it gets a gradient; only where some do not."""
        self.lost: dict[int, NDArray[np.bool_]] = {}
        """By node, [*shape], for each element whether it gets none; only where some do and some do not."""

    def note(self, i: Instruction) -> None:
        """Work it out for the node of an instruction."""
        active = self._active
        active[i.node] = any(active[operand] for operand in i.operands)
        if not active[i.node]:
            return
        if i.op.reach is not None:
            inside, elements = i.op.reach(i.step, self._elements(i))
            if not inside.all():
                self.inside[i.node] = inside
        elif self.lost and i.op.moves and i.operands[0] in self.lost:
            found = self._moved(i)
            if found is None:
                return
            elements = found
        else:
            return
        active[i.node] = bool(elements.any())
        if active[i.node] and not elements.all():
            self.lost[i.node] = ~elements

    def told(self, i: Instruction) -> Instruction:
        """The instruction, which knows what it has inside that gets a gradient."""
        inside = self.inside.get(i.node)
        return i if inside is None else i._replace(step=i.step._replace(reached=inside))

    def _elements(self, i: Instruction) -> NDArray[np.bool_]:
        sizes = [self._program.sizes[operand] for operand in i.operands]
        elements: NDArray[np.bool_] = np.repeat(np.array([self._active[n] for n in i.operands], np.bool_), sizes)
        if self.lost:
            start = 0
            for operand, elements_of in zip(i.operands, sizes, strict=True):
                if operand in self.lost:
                    elements[start : start + elements_of] = ~self.lost[operand].ravel()
                start += elements_of
        return elements

    def _moved(self, i: Instruction) -> NDArray[np.bool_] | None:
        """What becomes of the elements of the first operand; None if each example has that of its own."""
        operands = [~self.lost[i.operands[0]][..., np.newaxis]]
        for operand in i.operands[1:]:
            index = self._program.graph.nodes[operand]
            if not isinstance(index, Constant):
                return None
            operands.append(index.value[..., np.newaxis])
        out = np.empty((*self._program.shapes[i.node], 1), np.bool_)
        i.op.forward(i.step, operands, out)
        return out[..., 0]


def clear(lost: Mapping[int, NDArray[np.bool_]], adjoints: ByNode[Array | None]) -> None:
    """Set to zero what was added to the gradients of elements that get none."""
    for node, elements in lost.items():
        adjoint = adjoints[node]
        if adjoint is not None:
            adjoint[elements] = 0
