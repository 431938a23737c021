"""A compiled graph: everything about it that does not depend on a request."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache, partial
from weakref import ref

import numpy as np

from gradwire_server.engine.graph import Array, Constant, Graph, Input, Operation, Parameter, Shape
from gradwire_server.engine.instruction import Instruction
from gradwire_server.engine.lowering import RESIDENT, kernel_of
from gradwire_server.engine.plan import Plan, ancestors, make_plan
from gradwire_server.engine.shapes import addressed, size
from gradwire_server.engine.sharing import equal_constants
from gradwire_server.engine.workspace import Workspace
from gradwire_server.errors import shown

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
FLOAT32_BYTES = 4

PLANS_KEPT = 16
"""Plans, each for a choice of gradients and outputs, kept for a program."""

PLANNED_NODES = 1 << 16
"""Nodes that these plans have together, at most, unless one alone has more."""

NODE_BYTES, OPERAND_BYTES, PLANNED_BYTES, PLAN_BYTES = 1100, 60, 450, 12_000
"""Rough memory of a node with one plan, of an operand, of a node in every further plan, and of a plan itself."""

FOLDED = 1 << 16
"""Elements, at most, that constants and what depends on them alone take in what is kept of a plan."""

FOLDED_BYTES = 12
"""Of each, in either dtype."""

PACKED_BYTES, ARGUMENT_BYTES, POSITION_BYTES = 120, 40, 16
"""The same of an operation that is packed in a node, of its argument, and of a position there."""

IDLE_BYTES, IDLE_SHARE = 64 << 10, 4
"""Bytes that the storage kept between requests may take, and the part of what the program takes that it may besides."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Source:
    """A tensor that requests supply."""

    name: str
    node: int
    parameter: bool
    """If false, it is an input."""
    shape: Shape
    """Shape for one example."""
    per_example: bool
    integer: bool
    unused: bool
    """Whether the loss does not depend on it."""

    def __str__(self) -> str:
        return f"{'parameter' if self.parameter else 'input'} {shown(self.name)}"


class Program:
    """A checked graph with its shapes and plans, and idle storage of its evaluations; safe to share among threads."""

    def __init__(
        self,
        graph: Graph,
        shapes: tuple[Shape, ...],
        instructions: tuple[Instruction | None, ...],
        graph_id: str,
    ) -> None:
        self.graph = graph
        self.shapes = shapes
        """Shape of each node for one example."""
        self.instructions = instructions
        """One for each node; None for sources."""
        self.sizes = tuple(map(size, shapes))
        """Elements of each node for one example."""
        self.graph_id = graph_id
        """SHA-256 of the canonical form, 64 hexadecimal digits."""
        self.per_example = _per_example(graph)
        """For each node, whether it depends on examples."""
        self.kernels = tuple(None if i is None else kernel_of(self, i) for i in instructions)
        """For each node, what the kernel does to compute it; None where NumPy does it."""
        reached = ancestors(instructions, [graph.loss])
        self.sources = tuple(
            Source(
                name=node.name,
                node=index,
                parameter=isinstance(node, Parameter),
                shape=node.shape,
                per_example=isinstance(node, Input) and node.per_example,
                integer=isinstance(node, Input) and node.integer,
                unused=not reached[index],
            )
            for index, node in enumerate(graph.nodes)
            if isinstance(node, Parameter | Input)
        )
        """What requests supply, in the order of nodes."""
        self.by_name = {source.name: source for source in self.sources}
        self.parameters = tuple(source for source in self.sources if source.parameter)
        """Those that are differentiated in unless a request says otherwise."""
        self.batched = any(source.per_example for source in self.sources)
        """Whether requests bring examples."""
        self.constants = tuple((i, node.value) for i, node in enumerate(graph.nodes) if isinstance(node, Constant))
        """Constants by node index."""
        self.harmless = frozenset(
            i
            for i, node in enumerate(graph.nodes)
            if self.is_integer(i) or (isinstance(node, Constant) and _is_finite(node))
        )
        """Sources that cannot hold what is not finite: row indices, and constants that are finite in either dtype."""
        self.widest_empty = max((addressed(shape) for shape in shapes if 0 in shape), default=0)
        """Product of the non-zero axes of the empty tensor that takes the most to address; 0 if none is empty."""
        self.cast_constants = cache(partial(_cast, self.constants))
        """The constants as a request of this dtype sees them: [*shape, 1]."""
        self.equal_constants = equal_constants(graph)
        """For small constants that are equal to an earlier one, the first of those."""
        self.folded, self._folded_elements = self._fold()
        """Float constants that the kernel may read, and what depends on constants alone, as far as it is kept."""
        self.plans_kept = max(1, min(PLANS_KEPT, PLANNED_NODES // len(shapes)))
        """How many of its plans are kept."""
        self.idle: list[Workspace] = []
        """Storage that the next request may have; one at most, or none while it is used."""
        # By a weak reference: else a program would be in a cycle, and its memory be free only some time after its end.
        self.plan = lru_cache(self.plans_kept)(partial(_plan, ref(self)))
        """Plan for ``(differentiated nodes, output nodes, separate, plain)``, the nodes as tuples of indices."""
        self.plan(tuple(source.node for source in self.sources if source.parameter), (), separate=False)

    @property
    def nbytes(self) -> int:
        """Estimate of the memory that keeping the program takes, in bytes, with all that requests may add to it."""
        return self._own_bytes + self.idle_bytes

    @property
    def idle_bytes(self) -> int:
        """Bytes that storage may take that is kept between requests."""
        return IDLE_BYTES + self._own_bytes // IDLE_SHARE

    @cached_property
    def _own_bytes(self) -> int:
        operands = sum(len(self.operands(index)) for index in range(len(self.shapes)))
        constants = sum(value.nbytes + FLOAT32_BYTES * value.size for _, value in self.constants)
        a_node = NODE_BYTES + PLANNED_BYTES * (self.plans_kept - 1)
        inside = 0
        for own in self.instructions:
            if own is not None:
                packed, arguments = own.op.packed(own.step.attributes)
                inside += PACKED_BYTES * packed + ARGUMENT_BYTES * arguments + POSITION_BYTES * own.op.inner(own.step)
        applied = [own for own in self.instructions if own is not None]
        masks = 0
        if any(own.op.reach is not None for own in applied):
            # What gets a gradient, of what is inside, twice, and of what that gives and is moved.
            given = [own for own in applied if own.op.reach is not None or own.op.moves]
            masks = sum(2 * own.op.inner(own.step) + self.sizes[own.node] for own in given)
        a_plan = PLAN_BYTES + FOLDED_BYTES * self._folded_elements + masks
        return a_node * len(self.shapes) + OPERAND_BYTES * operands + constants + a_plan * self.plans_kept + inside

    def label(self, index: int) -> str:
        """The node's name, or one made of its op and index."""
        node = self.graph.nodes[index]
        return node.name or f"{self.kind(index)}_{index}"

    def kind(self, index: int) -> str:
        """An op's name, ``parameter``, ``input`` or ``constant``."""
        node = self.graph.nodes[index]
        return node.op if isinstance(node, Operation) else type(node).__name__.lower()

    def operands(self, index: int) -> tuple[int, ...]:
        """The node's operands; none of a source."""
        node = self.graph.nodes[index]
        return node.operands if isinstance(node, Operation) else ()

    def is_integer(self, index: int) -> bool:
        """Whether the node holds row indices."""
        node = self.graph.nodes[index]
        return isinstance(node, Input | Constant) and node.integer

    def _fold(self) -> tuple[frozenset[int], int]:
        folded: set[int] = set()
        elements = 0
        for node, own in enumerate(self.instructions):
            constant = isinstance(self.graph.nodes[node], Constant)
            if own is None:
                foldable = constant and not self.is_integer(node) and self.sizes[node] <= RESIDENT
                needs = self.sizes[node]
            else:
                foldable = all(n in folded or isinstance(self.graph.nodes[n], Constant) for n in own.operands)
                needs = self.sizes[node] + own.op.inner(own.step) if foldable else 0
            if foldable and elements + needs <= FOLDED:
                folded.add(node)
                elements += needs
        return frozenset(folded), elements


def _plan(
    own: ref[Program], wrt: tuple[int, ...], outputs: tuple[int, ...], *, separate: bool, plain: bool = False
) -> Plan:
    program = own()
    assert program is not None  # noqa: S101  (whoever asks it for a plan has it)
    # A merged plan needs the plain one beside it.
    return make_plan(program, wrt, outputs, separate=separate, plain=plain or program.plans_kept == 1)


def _cast(constants: Iterable[tuple[int, Array]], dtype: np.dtype[np.floating]) -> tuple[tuple[int, Array], ...]:
    with np.errstate(over="ignore"):
        return tuple(
            (i, (value if value.dtype == np.int64 else value.astype(dtype, copy=False))[..., np.newaxis])
            for i, value in constants
        )


def _is_finite(constant: Constant) -> bool:
    value = constant.value
    largest = abs(value.item()) if value.ndim == 0 else np.abs(value).max(initial=0)
    return bool(largest <= LARGEST_FLOAT32)


def _per_example(graph: Graph) -> tuple[bool, ...]:
    flags: list[bool] = []
    for node in graph.nodes:
        if isinstance(node, Operation):
            flags.append(any(flags[operand] for operand in node.operands))
        else:
            flags.append(isinstance(node, Input) and node.per_example)
    return tuple(flags)
