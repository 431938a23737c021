"""One example in full: the value of every node as it was sent, and the gradient on every edge."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.explain.nonfinite import NonFinite
from gradwire_server.engine.explain.report import bad_step, bad_value
from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.graph import Array
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.graph.ops import PASSIVE_OPERANDS
from gradwire_server.engine.reference import interpreter
from gradwire_server.engine.reference.batches import Batch
from gradwire_server.engine.reference.interpreter import backward, forward, needed
from gradwire_server.engine.reference.rule import Part

FLOAT64 = np.dtype(np.float64)

NODE_BYTES, EDGE_BYTES = 1200, 1000
"""Bytes of Python objects and in the reply, for a node and for an edge, besides their elements."""


@dataclass(frozen=True, slots=True, kw_only=True)
class EdgeTrace:
    """What one consumer adds to the gradient of its operand ``node``; None for row indices."""

    node: int
    gradient: Array | None


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeTrace:
    """What happened at a node; ``gradient`` is None for row indices."""

    name: str
    op: str
    value: Array
    gradient: Array | None
    operands: tuple[EdgeTrace, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trace:
    """Every node of the graph as it was sent, in its order."""

    nodes: tuple[NodeTrace, ...]
    non_finite: NonFinite | None


def trace(
    program: Checked, arrays: Mapping[str, Array], dtype: np.dtype[np.floating], checkpoint: Checkpoint = unhurried
) -> Trace:
    """Evaluate one example, whose arrays have no axis of examples, and differentiate it in everything.

    Raises:
        Refusal: INDEX_OUT_OF_RANGE; whatever ``checkpoint`` raises.
    """
    edges = _Edges(program, dtype, checkpoint)
    wanted = needed(program, edges.nodes)
    values = forward(program, arrays, dtype, wanted, checkpoint)
    report = bad_value(program, values, wanted, None, checkpoint)
    sources = np.flatnonzero(program.graph.opcodes <= Opcode.CONSTANT).tolist()
    floats = [node for node in sources if values[node].dtype != np.int64]
    # What ends gradients has one itself, which is shown; no step behind it is reported.
    ends = np.flatnonzero(PASSIVE_OPERANDS[program.graph.opcodes]).tolist()
    wanted = program.active(floats + ends)
    gradients = backward(program, values, wanted, edges.observe, checkpoint)
    report = report or bad_step(program, values, gradients, program.active(floats), None, checkpoint)

    def gradient(node: int, of: Array | None) -> Array | None:
        if values[node].dtype == np.int64:
            return None
        return np.zeros(program.shape(node), dtype) if of is None else np.asarray(of)

    def traced(node: int) -> NodeTrace:
        along = [(operand, edges.gradients.get((node, key))) for key, operand in edges.operands(node)]
        return NodeTrace(
            name=program.graph.label(node),
            op=program.graph.kind(node),
            value=np.asarray(values[node]),
            gradient=gradient(node, gradients[node] if wanted[node] else None),
            operands=tuple(
                EdgeTrace(node=program.graph.sent(operand), gradient=gradient(operand, of))
                for operand, of in checked(along, checkpoint)
            ),
        )

    return Trace(nodes=tuple(traced(node) for node in checked(edges.nodes, checkpoint)), non_finite=report)


def elements_of_trace(program: Checked) -> int:
    """Elements of all tensors of a trace."""
    edges = _Edges(program, FLOAT64)
    return 2 * sum(map(program.size, edges.nodes)) + sum(map(program.size, edges.ends()))


def memory_of_trace(program: Checked, dtype: np.dtype[np.floating]) -> int:
    """Bytes that a trace takes at most, with objects of Python and the reply."""
    edges = _Edges(program, dtype)
    objects = NODE_BYTES * len(edges.nodes) + EDGE_BYTES * len(edges.ends())
    return interpreter.memory(program, dtype) + elements_of_trace(program) * dtype.itemsize + objects


class _Edges:
    """The graph as it was sent, and the gradients that go along its edges.

    A packed node is known by the node of its vector of results, and its edges are those of all that it has inside: to
    tensors that elements are of, and to scalars. Edges within it are not seen.
    """

    def __init__(self, program: Checked, dtype: np.dtype[np.floating], checkpoint: Checkpoint = unhurried) -> None:
        graph, origins = program.graph, program.graph.origins
        self._program = program
        self._dtype = dtype
        self._checkpoint = checkpoint
        self.nodes: list[int] = list(range(len(graph))) if origins is None else origins.nodes.tolist()
        """[sent nodes], the node that has the value of each."""
        self.gradients: dict[tuple[int, int], Array] = {}
        """By node, and slot of the operand; by node and operand where the node is packed."""
        self._owner = np.arange(len(graph)) if origins is None else origins.nodes[origins.sent].astype(np.int64)
        """[nodes], the node that has the value of the sent node that each is part of."""
        self._packed = graph.opcodes[self._owner] == Opcode.STACK
        consumers = np.repeat(np.arange(len(graph)), np.diff(graph.starts))
        crossing = self._packed[consumers] & (self._owner[consumers] != self._owner[graph.operands])
        pairs = np.stack([self._owner[consumers[crossing]], graph.operands[crossing]], axis=1)
        self._outside: dict[int, list[int]] = {}
        for node, operand in np.unique(pairs, axis=0).tolist():
            self._outside.setdefault(node, []).append(operand)

    def operands(self, node: int) -> list[tuple[int, int]]:
        """What distinguishes each edge of a sent node, and its operand."""
        if self._packed[node]:
            return [(operand, operand) for operand in self._outside.get(node, [])]
        return list(enumerate(self._program.graph.operands_of(node)))

    def ends(self) -> list[int]:
        """The operands of all edges."""
        return [operand for node in self.nodes for _, operand in self.operands(node)]

    def observe(self, batch: Batch, slot: int, contribution: Array | Part) -> None:
        """Note what goes along the edges of a batch."""
        nodes, operands = map(np.ravel, np.broadcast_arrays(batch.nodes, batch.operands[slot]))
        owners, packed = self._owner[nodes], self._packed[nodes]
        seen = np.flatnonzero(~packed | (owners != self._owner[operands])).tolist()
        for i in checked(seen, self._checkpoint):
            owner, operand = int(owners[i]), int(operands[i])
            key = (owner, operand if packed[i] else slot)
            if key not in self.gradients:
                self.gradients[key] = np.zeros(self._program.shape(operand), self._dtype)
            if isinstance(contribution, Part):
                self.gradients[key].reshape(-1)[np.ravel(contribution.places)[i]] += np.ravel(contribution.numbers)[i]
            else:
                self.gradients[key] += contribution if isinstance(batch.operands[slot], int) else contribution[i]
