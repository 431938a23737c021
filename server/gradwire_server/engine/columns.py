"""The nodes of a graph in columns, so that what is asked of all of them takes no step of Python for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.graph import Operation
from gradwire_server.engine.kernels import order
from gradwire_server.engine.nodes import Nodes
from gradwire_server.engine.ops.scalars import CODES, MAX, POWER

_CODES = {name: code for code, name in enumerate(CODES)}


@dataclass(frozen=True, slots=True)
class Columns:
    """The nodes of a graph."""

    codes: NDArray[np.int8]
    """What each does, in the codes of ``scalars``, if it may be an operation on scalars; else 0."""
    exponents: NDArray[np.float64]
    """For each node, that of a power."""
    starts: NDArray[np.int64]
    """Where the operands of each begin among all, and where they end."""
    operands: NDArray[np.int32]
    """Indices of nodes; below 0, or not below the number of nodes, if they are none."""

    @property
    def arities(self) -> NDArray[np.int64]:
        """How many operands each has."""
        return np.diff(self.starts)

    def ancestors(self, roots: NDArray[np.integer] | Sequence[int]) -> NDArray[np.bool_]:
        """For each node, whether one of ``roots`` depends on it (or is it)."""
        marked = np.zeros(len(self.codes), np.bool_)
        marked[roots] = True
        order.mark(self.starts, self.operands, 0, marked)
        return marked

    def descendants(self, roots: NDArray[np.integer] | Sequence[int]) -> NDArray[np.bool_]:
        """For each node, whether it depends on one of ``roots`` (or is it)."""
        marked = np.zeros(len(self.codes), np.bool_)
        marked[roots] = True
        order.reach(self.starts, self.operands, 0, marked)
        return marked


def columns_of(nodes: Nodes, checkpoint: Checkpoint) -> Columns:
    """The nodes in columns, whatever is wrong with them; raises what ``checkpoint`` raises."""
    count = len(nodes)
    starts = np.zeros(count + 1, np.int64)
    starts[1:] = nodes.ends
    arities = np.diff(starts)
    try:
        operands = np.array(nodes.operands, np.int64)
    except OverflowError:
        operands = np.array([min(max(operand, -1), count) for operand in nodes.operands], np.int64)
    codes = np.fromiter([_CODES.get(op, 0) for op in nodes.ops], np.int8, count)
    codes[np.where(codes <= MAX, arities < 2, arities != 1)] = 0
    exponents = np.ones(count)
    exponents[codes == POWER] = np.nan
    for index, node in checked(nodes.others.items(), checkpoint):
        exponent = node.attributes.get("exponent") if codes[index] == POWER and isinstance(node, Operation) else None
        if isinstance(exponent, float | int):
            exponents[index] = exponent
        else:
            codes[index] = 0
    codes[~np.isfinite(exponents)] = 0
    return Columns(codes, exponents, starts, np.clip(operands, -1, count).astype(np.int32))
