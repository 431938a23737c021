"""From the instructions of a plan to what runs: elementwise operations become rows of the kernel, others stay.

Rows that do the same to scalars of one level (longest path from a source) become one row, ordered by their operands,
so that a swarm of scalars costs what a tensor costs. Nothing of a level depends on another node of it.

What is equal whatever a request brings is computed once: a tensor has the place of the first one that is made in the
same way of the same. Each keeps its gradient and its backward step, and all steps keep their order, so that no bit of a
result depends on it. What depends on constants alone has steps of its own, which need not run for each request.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.graph import Array, Shape
from gradwire_server.engine.instruction import ByNode, Instruction, passes
from gradwire_server.engine.kernels import columns as c
from gradwire_server.engine.kernels.opcodes import Opcode
from gradwire_server.engine.layout import Layout
from gradwire_server.engine.ops import OPS
from gradwire_server.engine.shapes import size, unbroadcast
from gradwire_server.engine.sharing import Sharing
from gradwire_server.engine.tape import Tape

if TYPE_CHECKING:
    from gradwire_server.engine.program import Program

NO_OPERAND = (0, c.NOWHERE, 1, c.NOWHERE, 1)
"""The columns of an operand that there is none of."""

DTYPES = np.dtype(np.float64), np.dtype(np.float32)

LISTABLE = 1 << 16
"""Elements of a result whose broadcast operands are listed; a longer list would cost more than NumPy does."""

RESIDENT = 1 << 14
"""Elements of a shared source that is copied to the kernel's values; NumPy reads larger ones where they are."""

PAIR = 2

RUN = 1 << 16
"""Elements that one call of the kernel goes through, about, so that somebody may stop the work in between."""


@dataclass(frozen=True, slots=True)
class Run:
    """Rows that one call of the kernel goes through; see ``kernels.walk``."""

    rows: NDArray[np.int64]
    exponents: Mapping[np.dtype[np.floating], Array]
    """By the dtype of a request."""
    lists: NDArray[np.int32]

    def only(self, chosen: NDArray[np.bool_]) -> Run:
        """These rows alone."""
        return Run(self.rows[chosen], {dtype: e[chosen] for dtype, e in self.exponents.items()}, self.lists)


@dataclass(frozen=True, slots=True)
class TapeRun:
    """An instruction that the kernel of tapes does, whose values of all places are among those of its stage."""

    instruction: Instruction
    tape: Tape
    sizes: tuple[int, ...]
    """Elements of each operand."""
    offset: int
    """Where the values of places begin; it counts elements of one lane."""

    def forward(self, values: ByNode[Array], storage: Array, lanes: int) -> None:
        """Compute the node's value, and those of all places, which are in the stage's ``storage``."""
        node, operands = self.instruction.node, self.instruction.operands
        self.tape.forward(
            [values[operand] for operand in operands], self._workspace(storage, lanes), lanes, values[node]
        )

    def backward(self, adjoints: ByNode[Array | None], storage: Array, lanes: int) -> bool:
        """Add the gradients of operands to theirs, given the node's, and the values from before.

        Returns whether those of operations inside are finite.
        """
        adjoint = adjoints[self.instruction.node]
        if adjoint is None:
            return True
        back, _, finite = self.tape.backward(adjoint, self._workspace(storage, lanes), lanes)
        start = 0
        for slot, (operand, elements) in enumerate(zip(self.instruction.operands, self.sizes, strict=True)):
            target = adjoints[operand]
            if target is not None:
                own = back[start : start + elements].reshape(*target.shape[:-1], lanes)
                anew = slot in self.instruction.step.written
                np.add(0 if anew else target, unbroadcast(own, target.shape), out=target)
            start += elements
        return finite

    def _workspace(self, storage: Array, lanes: int) -> Array:
        return storage[self.offset * lanes : (self.offset + self.tape.places) * lanes]


Step = Run | TapeRun | Instruction
Steps = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Schedule:
    """What a stage runs, and where its values and gradients are."""

    forward: Steps
    backward: Steps
    """Those that pass a gradient on, in the order in which they do."""
    values: Layout
    adjoints: Layout
    constant: Steps
    """Those that go before ``forward`` and depend on constants alone."""
    folded: int
    """Elements of what they give, and of constants that are copied; they are the first ones."""
    whole: tuple[int, int]
    """How many steps forward, and elements of values, there would be if nothing were shared. By them examples are cut
    into blocks, so that sharing moves no sum over examples."""


class _Operation(NamedTuple):
    """An elementwise operation on two operands or one; a node beyond those of the graph is an intermediate result."""

    out: int
    operands: tuple[int, ...]
    opcode: Opcode
    exponent: float


Group = list[_Operation]
"""Operations that one row does: one on a tensor, or many on scalars."""


@dataclass(slots=True)
class _Level:
    """What depends on lower levels only."""

    groups: dict[object, Group] = field(default_factory=lambda: defaultdict(list))
    others: list[Instruction] = field(default_factory=list)


def kernel_of(program: Program, i: Instruction) -> tuple[Opcode, float] | None:
    """What the kernel does for an instruction, and with which exponent; None if NumPy does it."""
    sizes = program.sizes
    elements = sizes[i.node]
    if i.op.kernel is None or elements == 0 or elements * (len(i.operands) - 2) > RUN:
        return None
    for node in i.operands:
        own = sizes[node]
        if own not in (1, elements) and elements > LISTABLE:
            return None
        if own > RESIDENT and program.instructions[node] is None and not program.per_example[node]:
            return None
    return i.op.kernel(i.step, len(i.operands))


class Lowering:
    """One stage, being lowered: its storage first, and then its steps.

    Args:
        program: The graph.
        active: For each node, whether it gets a gradient.
        shared: The stage whose values all lanes share; None for that stage itself.
        instructions: In topological order.
        resident: Nodes that no instruction gives, and that have a place among the stage's values.
        targets: Nodes that no instruction gives, and that get a gradient.
        written: Nodes whose gradient is not a sum.
        checkpoint: Called every few hundred instructions; what it raises ends the lowering.
    """

    def __init__(
        self,
        program: Program,
        active: Sequence[bool],
        shared: Lowering | None,
        instructions: Sequence[Instruction],
        resident: Iterable[int],
        targets: Iterable[int],
        written: Container[int],
        checkpoint: Checkpoint,
    ) -> None:
        self._checked = partial(checked, checkpoint=checkpoint)
        self._program = program
        self._active = list(active)
        self._shapes: list[Shape] = list(program.shapes)
        self._sizes = list(program.sizes)
        self._shared = shared
        self._nodes = len(program.shapes)
        self.folded = set() if shared or any(active[n] for n in program.folded) else set(program.folded)
        """Nodes whose values depend on constants alone, and are kept."""
        known: Mapping[int, int] = program.equal_constants if shared is None else shared.sharing.first
        # An intermediate result of another stage has no number here.
        known = {node: first for node, first in known.items() if max(node, first) < self._nodes}
        self.sharing: Sharing = Sharing(known)
        self.order: dict[int, int] = {}
        """Where values would begin if nothing were shared and folded; by it operations have their order in a row."""
        self._ordered = 0
        self.values: dict[int, int] = {}
        """First element by node."""
        self.adjoints: dict[int, int] = {}
        self._tapes: dict[int, int] = {}
        """Where the values of places begin, by node."""
        self._elements = self.adjoint_elements = 0
        for node in resident:
            self._line_up(node)
        targets = list(targets)
        levels = self._levels(self._checked(instructions))
        taped: dict[int, int] = {}
        for level in self._checked(levels):
            self._line_up_values(level, taped)
        folded = self._place_values(taped)
        # What one row gives stays together.
        grouped = {o.out for level in levels for group in level.groups.values() if len(group) > 1 for o in group}
        stored = [*targets, *self._checked(node for level in levels for node in self._stored(level))]
        last = [node for node in self._checked(stored) if node in written and node not in grouped]
        self._place_adjoints(self._checked(stored), without=set(last))
        added = self.adjoint_elements
        self._place_adjoints(last)
        parts = list(self._parts(self._checked(levels)))
        steps = [self._run(part) if isinstance(part, list) else self._other(part) for part in self._checked(parts)]
        constant, forward = self._forward(parts, steps)
        self.schedule = Schedule(
            forward=forward,
            backward=tuple(filter(None, map(self._backward, self._checked(reversed(steps))))),
            constant=constant,
            folded=folded,
            whole=(len(steps), self._ordered),
            values=self._layout(self.values, self._elements),
            adjoints=self._layout(self.adjoints, self.adjoint_elements, added),
        )

    # Storage.

    def _line_up(self, node: int) -> None:
        self.order[node] = self._ordered
        self._ordered += self._sizes[node]

    def _place_adjoints(self, nodes: Iterable[int], without: Container[int] = ()) -> None:
        for node in nodes:
            if self._active[node] and node not in without:
                self.adjoints[node] = self.adjoint_elements
                self.adjoint_elements += self._sizes[node]

    def _layout(self, offsets: dict[int, int], elements: int, added: int = 0) -> Layout:
        items = self._checked(offsets.items())
        return Layout({n: (offset, self._shapes[n]) for n, offset in items if n < self._nodes}, elements, added)

    def _line_up_values(self, level: _Level, taped: dict[int, int]) -> None:
        for group in level.groups.values():
            if len(group) > 1:
                group.sort(key=lambda operation: min(map(self._rank, operation.operands)))
        for node in self._stored(level):
            self._line_up(node)
        for i in level.others:
            if i.op.tape is not None:
                taped[i.node] = i.op.tape(i.step).places
                self._ordered += taped[i.node]

    def _place_values(self, taped: Mapping[int, int]) -> int:
        """Give all values their places, folded ones first; returns how many elements those have."""
        folded = [node for node in self.order if node in self.folded] if self.folded else []
        self._place(self._checked(folded), taped)
        elements = self._elements
        others = (n for n in self.order if n not in self.folded) if folded else self.order
        self._place(self._checked(others), taped)
        return elements

    def _place(self, nodes: Iterable[int], taped: Mapping[int, int]) -> None:
        for node in nodes:
            if self._shares(node):
                self.values[node] = self.values[self.sharing.first[node]]
                continue
            self.values[node] = self._elements
            self._elements += self._sizes[node]
            if node in taped:
                self._tapes[node] = self._elements
                self._elements += taped[node]

    def _shares(self, node: int) -> bool:
        """Whether the node has the place of an earlier one. A scalar has one of its own, in the row of its group."""
        return node in self.sharing.repeated and self._sizes[node] != 1

    def _stored(self, level: _Level) -> Iterator[int]:
        """The nodes that a level gives, in the order in which they are stored."""
        for group in level.groups.values():
            for operation in group:
                yield operation.out
        for i in level.others:
            yield i.node

    def _owner(self, node: int) -> Lowering:
        """The stage in whose storage a node is."""
        if self._shared is None or node >= self._nodes or self._program.per_example[node]:
            return self
        return self._shared

    def _rank(self, node: int) -> int:
        return self._owner(node).order[node]

    # Levels.

    def _levels(self, instructions: Iterable[Instruction]) -> list[_Level]:
        levels: dict[int, _Level] = defaultdict(_Level)
        level_of: dict[int, int] = {}

        def level(operands: Iterable[int]) -> int:
            return 1 + max([level_of.get(operand, 0) for operand in operands], default=0)

        for i in instructions:
            kernel = self._program.kernels[i.node]
            if kernel is None:
                own = level_of[i.node] = level(i.operands)
                levels[own].others.append(i)
                if i.op.tape is None:
                    self.sharing.instruction(i, self._shapes[i.node])
                continue
            for operation in self._operations(i, *kernel):
                own = level_of[operation.out] = level(operation.operands)
                self.sharing.operation(*operation)
                levels[own].groups[self._key(operation)].append(operation)
        return [levels[number] for number in sorted(levels)]

    def _operations(self, i: Instruction, opcode: Opcode, exponent: float) -> Iterator[_Operation]:
        """The instruction in steps of two operands, from left to right."""
        if len(i.operands) <= PAIR:
            yield _Operation(i.node, i.operands, opcode, exponent)
            return
        left, *others, last = i.operands
        shape = self._shapes[left]
        for right in others:
            shape = np.broadcast_shapes(shape, self._shapes[right])
            out = self._intermediate(shape, i.node)
            yield _Operation(out, (left, right), opcode, exponent)
            left = out
        yield _Operation(i.node, (left, last), opcode, exponent)

    def _intermediate(self, shape: Shape, of: int) -> int:
        self._shapes.append(shape)
        self._sizes.append(size(shape))
        self._active.append(self._active[of])
        node = len(self._shapes) - 1
        if of in self.folded:
            self.folded.add(node)
        return node

    def _key(self, operation: _Operation) -> object:
        """Equal for operations that one row can do."""
        if self._sizes[operation.out] != 1:
            return operation.out
        owners = tuple([self._owner(operand) is self for operand in operation.operands])
        return operation.opcode, operation.exponent, self._active[operation.out], owners

    # Steps.

    def _parts(self, levels: Iterable[_Level]) -> Iterator[list[Group] | Instruction]:
        """What steps do: groups of one run, or an instruction."""
        groups: list[Group] = []
        elements = 0
        for level in levels:
            for group in level.groups.values():
                groups.append(group)
                elements += len(group) * self._sizes[group[0].out]
                if elements > RUN:
                    yield groups
                    groups, elements = [], 0
            if level.others and groups:
                yield groups
                groups, elements = [], 0
            yield from level.others
        if groups:
            yield groups

    def _forward(self, parts: Iterable[list[Group] | Instruction], steps: Iterable[Step]) -> tuple[Steps, Steps]:
        """The steps that give values: those of folded nodes, and the others."""
        constant: list[Step] = []
        forward: list[Step] = []
        for part, step in zip(self._checked(parts), steps, strict=True):
            if isinstance(part, Instruction):
                if not self._shares(part.node):
                    (constant if part.node in self.folded else forward).append(self._given(step, part.node))
            elif not self.folded and not self.sharing.repeated:
                forward.append(step)
            else:
                for chosen, into in ((True, constant), (False, forward)):
                    groups = [
                        [o for o in group if (o.out in self.folded) == chosen and not self._shares(o.out)]
                        for group in part
                    ]
                    own = list(filter(None, groups))
                    if own:
                        into.append(step if sum(map(len, own)) == sum(map(len, part)) else self._run(own))
        return tuple(constant), tuple(forward)

    def _given(self, step: Step, node: int) -> Step:
        """The step, or one that copies the node's value if another node has it."""
        if isinstance(step, Instruction) and node in self.sharing.repeated:
            attributes = {"shape": self._shapes[node]}
            operands = (self.sharing.first[node],)
            return step._replace(
                op=OPS["reshape"], operands=operands, step=step.step._replace(attributes=attributes), work=1, views=()
            )
        return step

    def _other(self, i: Instruction) -> TapeRun | Instruction:
        if i.op.tape is None:
            return i
        return TapeRun(i, i.op.tape(i.step), tuple(self._sizes[n] for n in i.operands), self._tapes[i.node])

    def _backward(self, step: Step) -> Step | None:
        if isinstance(step, TapeRun):
            return step if passes(step.instruction, self._active) else None
        if isinstance(step, Run):
            passing = (step.rows[:, c.OUT_ADJOINT] != c.NOWHERE) & (
                (step.rows[:, c.A + c.ADJOINT] != c.NOWHERE) | (step.rows[:, c.B + c.ADJOINT] != c.NOWHERE)
            )
            if passing.all():
                return step
            return step.only(passing) if passing.any() else None
        return step if passes(step, self._active) else None

    def _run(self, groups: Sequence[Group]) -> Run:
        rows: list[tuple[int, ...]] = []
        lists = _Lists()
        for group in self._checked(groups):
            first = group[0]
            shape = self._shapes[first.out]
            operands = NO_OPERAND if len(first.operands) == 1 else ()
            for slot in range(len(first.operands) - 1, -1, -1):
                nodes = [operation.operands[slot] for operation in group]
                owner = self._owner(nodes[0])
                places = self._range(nodes, shape, owner.values, c.NOWHERE, lists)
                adjoints = self._range(nodes, shape, owner.adjoints, owner.adjoint_elements, lists)
                operands = (owner is not self, *places, *adjoints, *operands)
            count, adjoint = len(group) * self._sizes[first.out], self.adjoints.get(first.out, c.NOWHERE)
            rows.append((first.opcode, count, self.values[first.out], adjoint, *operands))
        exponents = np.array([group[0].exponent for group in groups])
        return Run(np.array(rows, np.int64), {dtype: exponents.astype(dtype) for dtype in DTYPES}, lists.joined())

    def _range(
        self, nodes: Sequence[int], shape: Shape, offsets: Mapping[int, int], nobody: int, lists: _Lists
    ) -> tuple[int, int]:
        """Where the elements of an operand begin, and the stride; ``nobody`` is for what a node has no place for."""
        if len(nodes) > 1:
            places = [offsets.get(node, nobody) for node in nodes]
            return lists.range(np.array(places)) if any(place != nobody for place in places) else (c.NOWHERE, 1)
        offset = offsets.get(nodes[0])
        if offset is None:
            return c.NOWHERE, 1
        own, elements, wanted = self._shapes[nodes[0]], self._sizes[nodes[0]], size(shape)
        if elements in (1, wanted):
            return offset, int(elements == wanted)
        return lists.range(offset + np.broadcast_to(np.arange(elements).reshape(own), shape).ravel())


class _Lists:
    """Lists of places, one after another."""

    def __init__(self) -> None:
        self._lists: list[NDArray[np.int64]] = []
        self._listed = 0

    def range(self, places: NDArray[np.int64]) -> tuple[int, int]:
        """Where the places begin, and the stride, if there is one; else where their list begins, and LISTED."""
        step = int(places[1] - places[0])
        if step >= 0 and (np.diff(places) == step).all():
            return int(places[0]), step
        self._lists.append(places)
        self._listed += len(places)
        return self._listed - len(places), c.LISTED

    def joined(self) -> NDArray[np.int32]:
        """All of them, as the kernel takes them."""
        return (
            np.concatenate(self._lists, dtype=np.int32, casting="same_kind") if self._lists else np.empty(0, np.int32)
        )
