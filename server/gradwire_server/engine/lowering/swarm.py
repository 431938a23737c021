"""Scalars of a stage: in which order they are computed, in groups, and where they are.

First come scalars that operations read and that something else gives (leaves), then operations in their order, so that
what one group gives stands together.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.graph.graph import Ties
from gradwire_server.engine.graph.opcodes import FUNCTIONS, Opcode
from gradwire_server.engine.lowering import order
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.question import Marks
from gradwire_server.engine.lowering.stage import Stage

RANKED = (
    Opcode.MUL, Opcode.SQUARE, Opcode.RECIPROCAL, Opcode.ADD, Opcode.MAX, Opcode.MAX_SPLIT, Opcode.POWER, Opcode.EXP,
    Opcode.LOG, Opcode.SIGMOID, Opcode.TANH, Opcode.SOFTPLUS, Opcode.SIN, Opcode.COS, Opcode.LOG1P, Opcode.EXPM1,
    Opcode.ERF, Opcode.LESS, Opcode.EQUAL, Opcode.SELECT, Opcode.PRODUCT, Opcode.TOTAL, Opcode.GREATEST,
    Opcode.GREATEST_SPLIT,
)  # fmt: skip
"""Opcodes in the order in which their groups take turns; other nodes come last."""

CODES_BY_RANK = np.array([*RANKED, *RANKED], np.int32)

OTHER = 2 * len(RANKED)
"""The rank of other nodes, behind those of operations with and without a gradient."""
CODES = int(Opcode.MIXED) + 1
RANKS_BY_CODE = np.array([RANKED.index(Opcode(code)) if code in RANKED else 0 for code in range(CODES)], np.int8)
PAIRS = {Opcode.MUL, Opcode.ADD, Opcode.MAX, Opcode.MAX_SPLIT, Opcode.LESS, Opcode.EQUAL}
LISTED = int(Opcode.SELECT)
"""Opcodes from here on are of operations whose arguments are listed."""

CHAINED = np.array([opcode not in FUNCTIONS for opcode in RANKED] * 2 + [True])
"""[ranks], whether the machine does a group strictly from its first node to its last."""

SHORTEST = 16
"""Operations whose arguments stand one after another that are worth a group."""

FEW = np.array([4 if code < LISTED and code != Opcode.POWER else 0 for code in range(CODES)])
"""[opcodes], how many operations are not worth a loop."""

ARGUMENTS = np.array(
    [-1 if code >= LISTED else 0 if code == Opcode.POWER else 2 if code in PAIRS else 1 for code in range(CODES)]
)
"""[opcodes], how many arguments an operation has; 0 if it is no matter where they are, -1 if they are listed."""

FIRST_ELEMENT = np.zeros(1, np.int64)
"""Offsets of the only element of a scalar."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Groups of scalars that one row goes through."""

    groups: NDArray[np.int32]
    """[groups, 5], see ``order.divide``."""
    active: NDArray[np.int32]
    """Groups of those that pass a gradient on."""


Step = Segment | int
"""A segment, or a node that has rows of its own."""


class Swarm:
    """Scalars of a stage.

    Args:
        stage: The stage.
        members: [nodes], nodes that the stage computes.
        opcodes: [nodes], with constant elements as ELEMENT.
        numbers: [nodes], flat indices of elements, exponents, constants.
        checkpoint: Called between passes over all nodes; may raise.
    """

    def __init__(
        self,
        stage: Stage,
        members: Marks,
        opcodes: NDArray[np.int8],
        numbers: NDArray[np.float64],
        checkpoint: Checkpoint,
    ) -> None:
        checkpoint()
        self._stage, self._members, self._numbers = stage, members, numbers
        graph = stage.checked.graph
        self._starts, self._operands = graph.starts, graph.operands
        self._scalar: Marks = members & stage.facts.scalar
        self._any = bool(self._scalar.any())
        self._codes = self._machine_codes(opcodes)
        ranks = np.full(len(graph), order.ABSENT, np.int8)
        ranks[members] = OTHER
        ranks[members & (opcodes == Opcode.ELEMENT)] = order.PASSED
        # What passes no gradient on has groups of its own, which need no backward step.
        idle = len(RANKED) * ~stage.facts.active[self._scalar]
        ranks[self._scalar] = RANKS_BY_CODE[self._codes[self._scalar]] + idle
        self.others: Marks = ranks == OTHER
        checkpoint()
        sequence, table = order.arrange(ranks, graph.starts, graph.operands, OTHER + 1, CHAINED)
        self.nodes: NDArray[np.int32] = sequence[self._scalar[sequence]]
        """Operations in their order."""
        checkpoint()
        self._find_leaves(opcodes)
        checkpoint()
        self.first = len(self.leaves)
        """Place of the first operation."""
        self.end = self.first + len(self.nodes)
        stage.scalar_places[self.leaves] = np.arange(self.first)
        stage.scalar_places[self.nodes] = np.arange(self.first, self.end)
        stage.values.places[self.nodes] = np.arange(self.first, self.end)
        stage.places = self.end
        self._tabulate()
        self._sources = sorted({*self._elements_of, *self.single.tolist()})
        checkpoint()
        self.steps = self._cut(sequence, table)

    def _machine_codes(self, opcodes: NDArray[np.int8]) -> NDArray[np.int8]:
        if not self._any:
            return opcodes
        codes = opcodes.copy()
        arities = np.diff(self._starts)
        powers, many = self._scalar & (codes == Opcode.POWER), arities > 2
        codes[powers & (self._numbers == 2)] = Opcode.SQUARE
        codes[powers & (self._numbers == -1)] = Opcode.RECIPROCAL
        split = self._stage.checked.graph.ties is Ties.SPLIT
        largest = codes == Opcode.MAX
        codes[largest] = Opcode.MAX_SPLIT if split else Opcode.MAX
        codes[largest & many] = Opcode.GREATEST_SPLIT if split else Opcode.GREATEST
        codes[(opcodes == Opcode.MUL) & many] = Opcode.PRODUCT
        codes[(opcodes == Opcode.ADD) & many] = Opcode.TOTAL
        return codes

    def _find_leaves(self, opcodes: NDArray[np.int8]) -> None:
        """Scalars that operations or stacks read: constants, then elements by tensor, then others."""
        readers = self._scalar | (self._members & (opcodes == Opcode.STACK))
        marks = np.zeros(len(self._scalar), np.bool_)
        if readers.any():
            marks[self._operands[np.repeat(readers, np.diff(self._starts))]] = True
            marks &= ~self._scalar
        read = np.flatnonzero(marks).astype(np.int32)
        constant = opcodes[read] == Opcode.CONSTANT
        element = opcodes[read] == Opcode.ELEMENT
        self.constants = read[constant]
        tensors = self._operands[self._starts[read[element]]]
        self.elements = read[element][np.lexsort((self._numbers[read[element]], tensors))]
        self.tensors = self._operands[self._starts[self.elements]]
        """[elements], tensors that elements are of."""
        edges = np.flatnonzero(np.diff(self.tensors, prepend=-1, append=-1)).tolist()
        self._elements_of = {int(self.tensors[begin]): (begin, end) for begin, end in pairwise(edges)}
        self.single = read[~constant & ~element]
        self.leaves = np.concatenate([self.constants, self.elements, self.single])

    def _tabulate(self) -> None:
        if not self._any:
            return
        places = self._stage.scalar_places
        self._a, self._b, self._lists, self._standing = order.tabulate(
            self.nodes, self._codes, self._starts, self._operands, places, LISTED, int(Opcode.TOTAL)
        )
        self._own_codes = self._codes[self.nodes]
        powers = np.flatnonzero(self._own_codes == Opcode.POWER)
        self._b[powers] = np.arange(len(powers))
        exponents = self._numbers[self.nodes[powers]]
        self._exponents = exponents, exponents.astype(np.float32)
        listed = self.nodes[self._own_codes >= LISTED]
        longest = int((self._starts[listed + 1] - self._starts[listed]).max(initial=1))
        self._stage.writer.scratch = max(self._stage.writer.scratch, 4096, 16 * longest)

    def _cut(self, sequence: NDArray[np.int32], table: NDArray[np.int32]) -> list[Step]:
        """Steps in their order: groups between two other nodes are one segment."""
        if not self._any:
            return [int(node) for node in sequence[self.others[sequence]]]
        ops_before = np.zeros(len(sequence) + 1, np.int64)
        np.cumsum(self._scalar[sequence], out=ops_before[1:])
        active = self._stage.facts.active[self.nodes]
        steps: list[Step] = []
        start = 0
        for end in [*np.flatnonzero(table[:, 0] == OTHER).tolist(), len(table)]:
            if end > start:
                groups = table[start:end].copy()
                groups[:, 0] = CODES_BY_RANK[groups[:, 0]]
                groups[:, 1:] = ops_before[groups[:, 1:]]
                divided = order.divide(
                    groups, self._own_codes, self._a, self._b, self._lists, self._standing, self.first, ARGUMENTS,
                    SHORTEST, FEW, int(Opcode.MIXED), active,
                )  # fmt: skip
                steps.append(Segment(divided, divided[active[divided[:, 1]]]))
            if end < len(table):
                steps += sequence[table[end, 1] : table[end, 2]].tolist()
            start = end + 1
        return steps

    # Rows.

    def write(self, segment: Segment, kind: int, zeroed: int) -> None:
        """The row of a segment, forward or backward; gradients are zero from a place on."""
        writer, stage = self._stage.writer, self._stage
        address = writer.address
        wide, narrow = self._exponents
        values = stage.all_places()
        groups = segment.groups if kind == r.SWARM else segment.active
        writer.row(
            kind, address(groups), len(groups), address(self._own_codes), address(self._a),
            address(self._b), address(self._lists), address(wide), address(narrow), self.first,
            zeroed, *values.ref, *stage.opposite(values).ref,
        )  # fmt: skip
        writer.work += 2 * int((groups[:, 2] - groups[:, 1]).sum())

    def load(self, tensor: int) -> None:
        """Give elements of a tensor that are leaves their places, and a scalar that is elsewhere."""
        self._move(tensor, r.ELEMENTS)

    def unload(self, tensor: int) -> None:
        """Add the gradients of these leaves to that of the tensor."""
        if self._stage.wants(tensor):
            self._move(tensor, r.ELEMENTS_BACK)

    def _move(self, tensor: int, kind: int) -> None:
        stage = self._stage
        values = stage.all_places()
        if kind == r.ELEMENTS_BACK:
            values = stage.opposite(values)
        if tensor in self._elements_of:
            begin, end = self._elements_of[tensor]
            view = stage.values[tensor] if kind == r.ELEMENTS else stage.gradient(tensor)
            indices = self._numbers[self.elements[begin:end]].astype(np.int64)
            place = len(self.constants) + begin
            stage.writer.elements(kind, view.offsets(indices), place, values, view)
        place = int(stage.scalar_places[tensor])
        if place >= 0 and not self._scalar[tensor] and not self._at_place(tensor):
            view = stage.values[tensor] if kind == r.ELEMENTS else stage.gradient(tensor)
            stage.writer.elements(kind, FIRST_ELEMENT, place, values, view)

    def _at_place(self, node: int) -> bool:
        view = self._stage.values[node]
        return view.buffer == self._stage.own and view.place == self._stage.scalar_places[node] and not view.offset

    def outside(self) -> list[int]:
        """Tensors and scalars that leaves come from and that no step of the stage computes."""
        return [node for node in self._sources if not self.others[node]]

    def active_leaves(self) -> list[tuple[int, int]]:
        """Where leaves with gradients begin, and how many there are, in runs."""
        marks = np.concatenate([[False], self._stage.facts.active[self.leaves], [False]])
        edges = np.flatnonzero(marks[1:] != marks[:-1])
        return [(int(begin), int(end - begin)) for begin, end in edges.reshape(-1, 2)]

    def load_constants(self) -> None:
        """Give constants their places."""
        if len(self.constants):
            numbers = self._numbers[self.constants].copy()
            self._stage.writer.constants(numbers, 0, self._stage.all_places())

    def zero(self) -> int:
        """Have gradients of leaves zero, and of operations that other steps add to; gives where these begin."""
        stage, writer = self._stage, self._stage.writer
        view = stage.opposite(stage.all_places())
        segments = sum(isinstance(step, Segment) for step in self.steps)
        zeroed = self.end
        if segments > 1:
            zeroed = self.first
        elif segments:
            owners = np.repeat(np.arange(len(self._members)), np.diff(self._starts))
            crossing = self._scalar[self._operands] & ~self._scalar[owners] & stage.facts.needed[owners]
            touched = stage.scalar_places[self._operands[crossing]]
            zeroed = int(touched.min(initial=self.end))
            loss = stage.checked.graph.loss
            if self._scalar[loss]:
                zeroed = min(zeroed, int(stage.scalar_places[loss]))
        if self.first:
            writer.fill(view, self.first, 0.0, lanes=stage.lanes)
        if zeroed < self.end:
            writer.fill(view._replace(place=zeroed), self.end - zeroed, 0.0, lanes=stage.lanes)
        return zeroed
