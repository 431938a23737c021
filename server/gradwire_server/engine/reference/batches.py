"""The order in which operations are interpreted, and which of them at once.

An operation on tensors is a batch by itself. Scalar operations that do the same, and do not depend on each other, are
one batch, so that a swarm of a million scalars is a few hundred calls of NumPy.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.compiled import compiled
from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.opcodes import ELEMENTWISE, Opcode, marks

Nodes = int | NDArray[np.int64]
"""A node, or the scalar nodes of a batch."""


_ELEMENTWISE = marks(ELEMENTWISE)


class Batch(NamedTuple):
    """An operation, or several that do the same to scalars."""

    opcode: Opcode
    nodes: Nodes
    operands: Sequence[Nodes]
    """For each slot, the operand, or those of all nodes. STACK has one slot, with all that it stacks."""


def single(program: Checked, node: int) -> Batch:
    """The batch of one operation."""
    opcode, operands = program.graph.opcode(node), program.graph.operands_of(node)
    return Batch(opcode, node, [np.array(operands)] if opcode is Opcode.STACK else operands)


def batches(program: Checked, needed: NDArray[np.bool_], *, backward: bool = False) -> Iterator[Batch]:
    """The needed operations, ``needed``: [nodes], in batches: each after its operands, or backward before them."""
    nodes, bounds = _grouped(program, needed)
    for start, stop in list(pairwise(bounds))[:: -1 if backward else 1]:
        batch = single(program, int(nodes[start]))
        yield batch if stop - start == 1 else _together(program, batch, nodes[start:stop])


def _together(program: Checked, one: Batch, nodes: NDArray[np.int64]) -> Batch:
    if one.opcode is Opcode.ELEMENT:
        return one._replace(nodes=nodes)
    slots = program.graph.starts[nodes] + np.arange(len(one.operands))[:, np.newaxis]
    return one._replace(nodes=nodes, operands=[*program.graph.operands[slots].astype(np.int64)])


def _grouped(program: Checked, needed: NDArray[np.bool_]) -> tuple[NDArray[np.int64], list[int]]:
    """The needed operations sorted by batches, and where each batch begins and the last one ends."""
    graph = program.graph
    levels = np.zeros(len(graph), np.int32)
    count_levels(graph.starts, graph.operands, levels)
    nodes = np.flatnonzero(needed & (graph.opcodes > Opcode.CONSTANT))
    opcodes, starts = graph.opcodes[nodes], graph.starts[nodes]
    scalar = (program.shape_ids[nodes] == 0) & _ELEMENTWISE[opcodes]
    # What tells operations of one opcode apart: the exponent, the tensor that elements are of, or the node itself.
    own = np.where(opcodes == Opcode.ELEMENT, graph.operands[starts], nodes).astype(np.float64)
    own[scalar] = np.where(opcodes == Opcode.POWER, graph.numbers[nodes], 0)[scalar]
    keys = own, scalar, graph.starts[nodes + 1] - starts, opcodes, levels[nodes]
    order = np.lexsort(keys)
    new = np.logical_or.reduce([key[order][1:] != key[order][:-1] for key in keys])
    return nodes[order], [0, *(np.flatnonzero(new) + 1).tolist(), len(order)] if len(order) else []


@compiled
def count_levels(starts: NDArray[np.int64], operands: NDArray[np.int32], levels: NDArray[np.int32]) -> None:
    """Set the level of each node, the length of the longest path to it; ``levels``, [nodes], come as zeros."""
    for node in range(len(starts) - 1):
        for i in range(starts[node], starts[node + 1]):
            levels[node] = max(levels[node], levels[operands[i]] + 1)
