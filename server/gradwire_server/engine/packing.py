"""Many operations on scalars -> few nodes that hold them in columns, to run in their place.

Operations on scalars that need nothing but each other, and what other nodes have computed before, are one node
``scalars``. Where they alternate with others, such as products of matrices, each turn has its own node; and in each
turn what depends on no example has one apart, so that it is computed once and not once for each; and so has what the
loss does not need, for it has no gradient, not even one of zero.

Values have the same bits. Gradients are added in another order. So what a packed graph gives counts only if all of it
is finite; if not, the graph runs as it is, and says where a number went wrong.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.applied import Applied
from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.columns import Columns
from gradwire_server.engine.graph import Constant, Graph, Input, Node, Operation, Shape
from gradwire_server.engine.instruction import Instruction
from gradwire_server.engine.kernels import order
from gradwire_server.engine.ops import OPS, Spec, Step
from gradwire_server.engine.ops.scalars import POWER
from gradwire_server.engine.program import Program

PACKED_FROM = 256
"""Operations on scalars from which on they are packed; fewer are quick enough."""

SAVED = 0.5
"""Nodes that packing saves for each operation, at least. It saves few where a few take turns with others."""

GROUP = 32
"""Nodes that take as long to prepare as one that holds operations."""

_PER_EXAMPLE, _ASIDE, _TURN = 1, 2, 4
"""A place is the number of a turn, four times, and 1 if it depends on examples, and 2 if the loss does not need it."""

Indices = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Packed:
    """A graph with its operations on scalars packed."""

    program: Program
    places: Mapping[int, int]
    """The nodes there that have the values of these, by node of the graph as it was sent."""


def pack(
    graph: Graph,
    columns: Columns,
    scalars: Indices,
    shapes: Sequence[Shape],
    applied: Applied,
    graph_id: str,
    checkpoint: Checkpoint,
) -> Packed | None:
    """The graph with the operations ``scalars`` packed, if that is worth it; raises what ``checkpoint`` raises."""
    if len(scalars) < PACKED_FROM:
        return None
    packing = _Packing(graph, columns, scalars, shapes, applied)
    if packing.saved < SAVED * len(scalars):
        return None
    packing.run()
    loss = packing.place(graph.loss)
    program = Program(
        Graph(nodes=tuple(packing.nodes), loss=loss, ties=graph.ties),
        tuple(packing.shapes),
        Applied(packing.instructions),
        graph_id,
        checkpoint,
        origins=packing.origins,
    )
    return Packed(program, packing.places)


@dataclass(frozen=True, slots=True)
class _Group:
    """The operations of a place."""

    place: int
    operations: slice
    """Among all that are packed, in their order."""
    arguments: slice


class _Packing:
    def __init__(
        self, graph: Graph, columns: Columns, scalars: Indices, shapes: Sequence[Shape], applied: Applied
    ) -> None:
        self._graph, self._columns, self._shapes_as_sent = graph, columns, shapes
        self._instructions_as_sent = {instruction.node: instruction for instruction in applied.known}
        self.nodes: list[Node] = []
        self.shapes: list[Shape] = []
        self.instructions: list[Instruction | None] = []
        self.origins: list[int] = []
        """For each node that of the graph as it was sent; -1 if there is none."""
        self.places: dict[int, int] = {}
        """The other way round."""
        self._positions: Indices = np.zeros(len(graph.nodes), np.int64)
        """Of what a group reads that is not of it, while it is made."""
        self._groups_at: dict[int, int] = {}
        """The nodes that have groups, by place."""
        self._sort(scalars)

    def _sort(self, scalars: Indices) -> None:
        """Find out what goes where."""
        graph, columns, count = self._graph, self._columns, len(self._graph.nodes)
        packed = np.zeros(count, np.bool_)
        packed[scalars] = True
        others = np.flatnonzero(~packed)
        # What nothing needs is left out.
        alive = columns.ancestors(np.append(others, graph.loss))
        packed &= alive
        arities = columns.arities
        self._read = np.zeros(count, np.bool_)
        """For each node, whether something that is not packed reads it."""
        self._read[columns.operands[np.repeat(alive & ~packed, arities)]] = True
        self._read[graph.loss] = True
        given = [(index, graph.nodes[index]) for index in others[arities[others] == 0].tolist()]
        self._constants = np.zeros(count)
        """The values of scalars."""
        self._constant = np.zeros(count, np.bool_)
        for index, node in given:
            if isinstance(node, Constant) and not node.integer and node.shape == ():
                self._constant[index] = True
                self._constants[index] = node.value
        examples = [index for index, node in given if isinstance(node, Input) and node.per_example]
        turns = np.zeros(count, np.int32)
        order.count_turns(columns.starts, columns.operands, packed, turns)
        aside = ~columns.ancestors([graph.loss])
        self._place = _TURN * turns + _ASIDE * aside + _PER_EXAMPLE * columns.descendants(examples)
        self._packed = packed
        kept = others[~self._constant[others] | self._read[others]]
        self._kept = kept[np.argsort(turns[kept], kind="stable")]
        self._order(np.flatnonzero(packed))
        taken = int(np.count_nonzero(self._read & packed))
        self.saved = count - len(kept) - GROUP * len(self._groups) - 2 * taken

    def _order(self, scalars: Indices) -> None:
        """Put operations of one place one after another, and number them and their results."""
        columns, count = self._columns, len(self._graph.nodes)
        operations = self._operations = scalars[np.argsort(self._place[scalars], kind="stable")]
        places, arities = self._place[operations], columns.arities[operations]
        ends = np.cumsum(arities)
        within = np.repeat(columns.starts[operations] - (ends - arities), arities)
        self._arguments = columns.operands[within + np.arange(len(within))]
        """Of all operations, one after another, as nodes."""
        owners = np.repeat(places, arities)
        self._outside = ~self._packed[self._arguments] | (self._place[self._arguments] != owners)
        """For each, whether it is not of the group."""
        given = self._read.copy()
        given[self._arguments[self._outside]] = True
        self._given = given[operations]
        """For each operation, whether its group gives its value to others."""
        cuts = [0, *(np.flatnonzero(np.diff(places)) + 1).tolist(), len(operations)]
        stops = np.concatenate([[0], ends])
        self._groups = [
            _Group(int(places[start]), slice(start, stop), slice(int(stops[start]), int(stops[stop])))
            for start, stop in pairwise(cuts)
            if start < stop
        ]
        starts = np.repeat(cuts[:-1], np.diff(cuts))
        self._number = np.zeros(count, np.int64)
        """For each operation, by node, which one of its group it is."""
        self._number[operations] = np.arange(len(operations)) - starts
        results = np.concatenate([[0], np.cumsum(self._given)])
        self._result = np.zeros(count, np.int64)
        """Where the result of its group has it, if it does."""
        self._result[operations] = results[:-1] - results[starts]

    def run(self) -> None:
        """Make the nodes, what needs nothing else first."""
        kept, position = self._kept.tolist(), 0
        turns = (self._place[self._kept] // _TURN).tolist()
        for group in self._groups:
            while position < len(kept) and turns[position] <= group.place // _TURN:
                self._keep(kept[position])
                position += 1
            self._add_group(group)
        for index in kept[position:]:
            self._keep(index)

    def place(self, index: int) -> int:
        """The node that has the value of this one."""
        found = self.places.get(index)
        return self._take(index) if found is None else found

    def _keep(self, index: int) -> None:
        node = self._graph.nodes[index]
        if not isinstance(node, Operation):
            self._add(node, self._shapes_as_sent[index], None, index)
            return
        operands = tuple(map(self.place, node.operands))
        named = Operation(
            name=node.name or f"{node.op}_{index}", op=node.op, operands=operands, attributes=node.attributes
        )
        own = self._instructions_as_sent[index]._replace(node=len(self.nodes), operands=operands)
        self._add(named, self._shapes_as_sent[index], own, index)

    def _take(self, index: int) -> int:
        """Take what a group gives by itself."""
        group = self._groups_at[int(self._place[index])]
        if self.shapes[group] == (1,):
            return self._apply("reshape", (group,), {"shape": ()}, index)
        row = Constant(value=np.array(self._result[index], np.int64))
        return self._apply("take", (group, self._add(row, (), None)), {}, index)

    def _add_group(self, group: _Group) -> None:
        own, listed = self._operations[group.operations], self._arguments[group.arguments]
        outside = self._outside[group.arguments]
        needed = np.unique(listed[outside])
        others = needed[~self._packed[needed] & ~self._constant[needed]]
        positions = self._positions
        positions[others] = np.arange(len(others))
        operands, elements = [self.places[index] for index in others.tolist()], len(others)
        results = needed[self._packed[needed]]
        results = results[np.argsort(self._place[results], kind="stable")]
        cuts = np.flatnonzero(np.diff(self._place[results])) + 1
        for there in np.split(results, cuts) if len(results) else ():
            node = self._groups_at[int(self._place[there[0]])]
            positions[there] = elements + self._result[there]
            operands.append(node)
            elements += self.shapes[node][0]
        constants = needed[self._constant[needed]]
        # By their bits, for 0 is not -0.
        bits, same = np.unique(self._constants[constants].view(np.int64), return_inverse=True)
        positions[constants] = elements + same
        first = elements + len(bits)
        codes = self._columns.codes[own]
        attributes = {
            "constants": bits.view(np.float64),
            "ops": codes,
            "arities": self._columns.arities[own],
            "arguments": np.where(outside, positions[listed], first + self._number[listed]),
            "exponents": self._columns.exponents[own][codes == POWER],
            "results": first + self._number[own[self._given[group.operations]]],
        }
        self._groups_at[group.place] = self._apply("scalars", tuple(operands), attributes)

    def _apply(self, name: str, operands: tuple[int, ...], attributes: Mapping[str, Any], origin: int = -1) -> int:
        op, index = OPS[name], len(self.nodes)
        shapes = [self.shapes[operand] for operand in operands]
        nodes = [self.nodes[operand] for operand in operands]
        specs = [
            Spec(shape, isinstance(node, Constant) and node.integer) for shape, node in zip(shapes, nodes, strict=True)
        ]
        shape, normal = op.infer(specs, attributes)
        step = Step(normal, self._graph.ties, op.prepare(normal, shapes))
        instruction = Instruction(index, op, operands, step, op.work(step, shapes, shape))
        label = ""
        if origin >= 0:
            node = self._graph.nodes[origin]
            label = node.name or (f"{node.op}_{origin}" if isinstance(node, Operation) else "")
        return self._add(Operation(name=label, op=name, operands=operands, attributes={}), shape, instruction, origin)

    def _add(self, node: Node, shape: Shape, instruction: Instruction | None, origin: int = -1) -> int:
        self.nodes.append(node)
        self.shapes.append(shape)
        self.instructions.append(instruction)
        self.origins.append(origin)
        if origin >= 0:
            self.places[origin] = len(self.nodes) - 1
        return len(self.nodes) - 1
