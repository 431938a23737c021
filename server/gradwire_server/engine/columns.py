"""The nodes of a graph in columns, so that what is asked of all of them takes no step of Python for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.graph import Node, Operation
from gradwire_server.engine.kernels import order
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


def columns_of(nodes: Sequence[Node]) -> Columns:
    """The nodes in columns, whatever is wrong with them."""
    count = len(nodes)
    operands = [node.operands if isinstance(node, Operation) else () for node in nodes]
    arities = np.fromiter(map(len, operands), np.int64, count)
    starts = np.concatenate([[0], np.cumsum(arities)])
    listed = chain.from_iterable(operands)
    try:
        flat = np.fromiter(listed, np.int64, int(starts[-1]))
    except OverflowError:
        flat = np.array([min(max(operand, -1), count) for own in operands for operand in own], np.int64)
    codes = np.array([_CODES.get(node.op, 0) if isinstance(node, Operation) else 0 for node in nodes], np.int8)
    codes[np.where(codes <= MAX, arities < 2, arities != 1)] = 0
    powers = np.flatnonzero(codes == POWER)
    exponents = np.ones(count)
    exponents[powers] = [_exponent(nodes[node]) for node in powers.tolist()]
    codes[~np.isfinite(exponents)] = 0
    told = [index for index, node in enumerate(nodes) if isinstance(node, Operation) and node.attributes]
    codes[[node for node in told if codes[node] != POWER]] = 0
    return Columns(codes, exponents, starts, np.clip(flat, -1, count).astype(np.int32))


def _exponent(node: Node) -> float:
    """The exponent of a power, or NaN if it has none that is a number."""
    found = node.attributes.get("exponent") if isinstance(node, Operation) else None
    return float(found) if isinstance(found, float | int) else np.nan
