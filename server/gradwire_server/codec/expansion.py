"""Packed nodes opened up: a node for each operation, and for each constant and element that something uses."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire.v1 import graph_pb2 as pb
from gradwire_server.codec.scalars import OPCODES
from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.graph.graph import Attributes, Graph, Origins
from gradwire_server.engine.graph.inference import Inferred
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.graph.shapes import size

Int = NDArray[np.int64]

DENSE = 8
"""Positions for each use of one up to which a table of all of them is quicker than sorting the uses."""


def expand(graph: Graph, inferred: Inferred, checkpoint: Checkpoint) -> Graph:
    """The graph with nodes in place of packed operations.

    Args:
        graph: As it was sent, with nothing wrong about it; packed nodes have the opcode STACK.
        inferred: What follows from it; attributes of packed nodes are their columns.
        checkpoint: Called before each packed node; may raise.
    """
    expansion = _Expansion(graph, inferred)
    start = 0
    for packed in np.flatnonzero(graph.opcodes == Opcode.STACK).tolist():
        checkpoint()
        expansion.copy(start, packed)
        expansion.open(packed)
        start = packed + 1
    expansion.copy(start, len(graph))
    return expansion.graph()


class _Part(NamedTuple):
    """Columns of some nodes, one after another."""

    opcodes: NDArray[np.int8]
    arities: Int
    operands: Int
    numbers: NDArray[np.float64]
    sent: Int
    position: Int


class _Expansion:
    def __init__(self, graph: Graph, inferred: Inferred) -> None:
        self._graph = graph
        self._inferred = inferred
        self._sizes = np.array([size(shape) for shape in inferred.shape_table], np.int64)
        self._nodes = np.empty(len(graph), np.int64)
        """[sent nodes], the node that has the value of each."""
        self._count = 0
        self._parts: list[_Part] = []

    def copy(self, start: int, stop: int) -> None:
        """Add the sent nodes from ``start`` to ``stop``, which are not packed."""
        graph, own = self._graph, slice(start, stop)
        sent = np.arange(start, stop)
        self._nodes[own] = sent - start + self._count
        operands = self._nodes[graph.operands[graph.starts[start] : graph.starts[stop]]]
        arities = np.diff(graph.starts[start : stop + 1])
        self._add(_Part(graph.opcodes[own], arities, operands, graph.numbers[own], sent, np.full(len(sent), -1)))

    def open(self, packed: int) -> None:
        """Add what is in a packed node, and the vector of its results."""
        columns = self._inferred.attributes[packed]
        operands = self._graph.operands_of(packed)
        shape_ids = self._inferred.shape_ids[operands]
        # Constants come after operands and are like one more.
        sizes = np.append(self._sizes[shape_ids], len(columns["constants"]))
        ends = np.cumsum(sizes)
        first = int(ends[-1])
        uses = np.concatenate([columns["arguments"], columns["results"]])
        outside = uses < first
        used, ranks = _distinct(uses[outside], first)
        slots = np.searchsorted(ends, used, "right")
        stand, numbers = np.append(self._nodes[operands], -1)[slots], (used - (ends - sizes)[slots]).astype(np.float64)
        constant = slots == len(operands)
        numbers[constant] = columns["constants"][used[constant] - (first - sizes[-1])]
        made = np.flatnonzero(np.append(shape_ids, -1)[slots])  # an operand that is a scalar is used as it is
        element = ~constant[made]
        stand[made], owners = self._count + np.arange(len(made)), stand[made][element]
        opcodes = np.where(element, Opcode.ELEMENT, Opcode.CONSTANT).astype(np.int8)
        sent = np.full(len(made), packed)
        self._add(_Part(opcodes, element.astype(np.int64), owners, numbers[made], sent, used[made]))
        uses += self._count - first
        uses[outside] = stand[ranks]
        arguments, results = np.split(uses, [len(columns["arguments"])])
        self._operations(packed, first, columns, arguments)
        self._nodes[packed] = self._count
        stack, one = np.array([Opcode.STACK], np.int8), np.array([packed])
        self._add(_Part(stack, np.array([len(results)]), results, np.array([np.nan]), one, np.array([-1])))

    def _operations(self, packed: int, first: int, columns: Attributes, arguments: Int) -> None:
        codes: Int = columns["ops"]
        numbers = np.full(len(codes), np.nan)
        numbers[codes == pb.SCALAR_OP_POWER] = columns["exponents"]
        sent, positions = np.full(len(codes), packed), first + np.arange(len(codes))
        self._add(_Part(OPCODES[codes], columns["arities"], arguments, numbers, sent, positions))

    def _add(self, part: _Part) -> None:
        self._parts.append(part)
        self._count += len(part.opcodes)

    def graph(self) -> Graph:
        """What was added."""
        sent_graph, nodes = self._graph, self._nodes.tolist()
        opcodes, arities, operands, numbers, sent, position = (
            np.concatenate(column) for column in zip(*self._parts, strict=True)
        )
        starts = np.zeros(self._count + 1, np.int64)
        np.cumsum(arities, out=starts[1:])
        attributes: dict[int, Any] = {
            nodes[node]: own for node, own in sent_graph.attributes.items() if sent_graph.opcodes[node] != Opcode.STACK
        }
        return Graph(
            opcodes=opcodes,
            starts=starts,
            operands=operands.astype(np.int32),
            numbers=numbers,
            names={nodes[node]: name for node, name in sent_graph.names.items()},
            contents={nodes[node]: content for node, content in sent_graph.contents.items()},
            attributes=attributes,
            origins=Origins(
                sent=sent.astype(np.int32), position=position.astype(np.int32), nodes=self._nodes.astype(np.int32)
            ),
            loss=nodes[sent_graph.loss],
            ties=sent_graph.ties,
        )


def _distinct(uses: Int, stop: int) -> tuple[Int, Int]:
    """The positions that are used, ascending, and for each use which of them it is; all are below ``stop``."""
    if stop > DENSE * len(uses):
        used, ranks = np.unique(uses, return_inverse=True)
        return used, ranks
    mask = np.zeros(stop, np.bool_)
    mask[uses] = True
    return np.flatnonzero(mask), (np.cumsum(mask) - 1)[uses]
