"""A compiled graph: everything about it that does not depend on a request."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import TYPE_CHECKING

import numpy as np

from gradwire_server.engine.applied import Applied
from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.collecting import no_full_collections
from gradwire_server.engine.columns import Columns, columns_of
from gradwire_server.engine.graph import Array, Constant, Graph, Input, Node, Operation, Parameter, Shape
from gradwire_server.engine.instruction import Instruction
from gradwire_server.engine.kernels.opcodes import Opcode
from gradwire_server.engine.lowering import RESIDENT, kernel_of
from gradwire_server.engine.nodes import Nodes
from gradwire_server.engine.plan import Plan, make_plan
from gradwire_server.engine.plans import Plans
from gradwire_server.engine.shapes import addressed, size
from gradwire_server.engine.sharing import equal_constants
from gradwire_server.engine.takes import Takes, taken_at_most
from gradwire_server.engine.workspace import Workspace
from gradwire_server.errors import shown

if TYPE_CHECKING:
    from gradwire_server.engine.packing import Packed

LARGEST_FLOAT32 = float(np.finfo(np.float32).max)
FLOAT32_BYTES = 4

PLANS_KEPT = 16
"""Plans, each for a choice of gradients and outputs, kept for a program."""

PLANNED_NODES = 1 << 16
"""Nodes that these plans have together, at most, unless one alone has more."""

NODE_BYTES, ATTRIBUTES_BYTES, OPERAND_BYTES = 1100, 800, 140
"""Rough memory of a node with one plan, of what one with attributes takes besides, and of an operand."""

PLANNED_BYTES, PLAN_BYTES = 450, 12_000
"""The same of a node in every further plan, and of a plan itself."""

FOLDED = 1 << 16
"""Elements, at most, that constants and what depends on them alone take in what is kept of a plan."""

FOLDED_BYTES = 12
"""Of each, in either dtype."""

PACKED_BYTES, ARGUMENT_BYTES, POSITION_BYTES = 130, 40, 16
"""The same of an operation that is packed in a node, of its argument, and of a position there."""

IDLE_BYTES, IDLE_SHARE = 64 << 10, 4
"""Bytes that the storage kept between requests may take, and the part of what the program takes that it may besides."""


def own_bytes(nodes: Nodes, packed: int, arguments: int) -> int:
    """Estimate of what a program takes at least, of so many packed operations and arguments."""
    attributed = sum(isinstance(node, Operation) for node in nodes.others.values())
    own = NODE_BYTES * len(nodes) + ATTRIBUTES_BYTES * attributed + OPERAND_BYTES * len(nodes.operands)
    return own + PACKED_BYTES * packed + ARGUMENT_BYTES * arguments


def with_idle(own: int) -> int:
    """What a program takes with the storage that may be kept for it between requests."""
    return own + IDLE_BYTES + own // IDLE_SHARE


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
        applied: Applied,
        graph_id: str,
        checkpoint: Checkpoint,
        columns: Columns | None = None,
        packed: Packed | None = None,
        origins: Sequence[int] = (),
    ) -> None:
        self.graph = graph
        self.shapes = shapes
        """Shape of each node for one example."""
        self.applied = applied
        self.nodes = Nodes.of(graph.nodes)
        self.columns = columns_of(self.nodes, checkpoint) if columns is None else columns
        self.packed = packed
        """What runs in its place, if that is quicker."""
        self.origins = origins
        """For each node that of the graph as it was sent, if that is another graph; -1 if there is none."""
        sizes = {shape: size(shape) for shape in set(shapes)}
        self.sizes = tuple([sizes[shape] for shape in shapes])
        """Elements of each node for one example."""
        self.graph_id = graph_id
        """SHA-256 of the canonical form, 64 hexadecimal digits."""
        given = list(checked(self.nodes.sources(), checkpoint))
        examples = [index for index, node in given if isinstance(node, Input) and node.per_example]
        self.per_example: tuple[bool, ...] = tuple(self.columns.descendants(examples).tolist())
        """For each node, whether it depends on examples."""
        reached = self.columns.ancestors([graph.loss])
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
            for index, node in checked(given, checkpoint)
            if isinstance(node, Parameter | Input)
        )
        """What requests supply, in the order of nodes."""
        self.by_name = {source.name: source for source in self.sources}
        checkpoint()
        self.parameters = tuple(source for source in self.sources if source.parameter)
        """Those that are differentiated in unless a request says otherwise."""
        self.batched = any(source.per_example for source in self.sources)
        """Whether requests bring examples."""
        self.constants = tuple((index, node.value) for index, node in given if isinstance(node, Constant))
        """Constants by node index."""
        self.harmless = frozenset(
            index
            for index, node in checked(given, checkpoint)
            if _is_integer(node) or (isinstance(node, Constant) and _is_finite(node))
        )
        """Sources that cannot hold what is not finite: row indices, and constants that are finite in either dtype."""
        self.widest_empty = max((addressed(shape) for shape in shapes if 0 in shape), default=0)
        """Product of the non-zero axes of the empty tensor that takes the most to address; 0 if none is empty."""
        self.cast_constants = cache(partial(_cast, self.constants))
        """The constants as a request of this dtype sees them: [*shape, 1]."""
        self.kernels: tuple[tuple[Opcode, float] | None, ...] = ()
        """For each node, what the kernel does to compute it; None where NumPy does it. Known once there is a plan."""
        self.folded: Mapping[int, int] = {}
        """Float constants that the kernel may read, and what depends on constants alone, as far as it is kept, with the
        elements that it takes. Known once there is a plan."""
        self.plans = Plans(max(1, min(PLANS_KEPT, PLANNED_NODES // len(shapes))))
        self.idle: list[Workspace] = []
        """Storage that the next request may have; one at most, or none while it is used."""

    def plan(
        self,
        wrt: tuple[int, ...],
        outputs: tuple[int, ...],
        *,
        separate: bool,
        plain: bool = False,
        checkpoint: Checkpoint,
    ) -> Plan:
        """The plan for these differentiated nodes and outputs; see ``make_plan``."""
        # A merged plan needs the plain one beside it.
        plain = plain or self.plans.most == 1

        @no_full_collections()
        def make() -> Plan:
            if not self.kernels:
                instructions = self.applied.instructions(checkpoint)
                kernels = tuple([i and kernel_of(self, i) for i in checked(instructions, checkpoint)])
                # Both or none of them: whatever the checkpoint raises, the next one begins anew.
                self.folded = self._foldable(checkpoint)
                self.kernels = kernels
            return make_plan(self, wrt, outputs, separate=separate, plain=plain, checkpoint=checkpoint)

        return self.plans.get((wrt, outputs, separate, plain), make, checkpoint)

    @cached_property
    def at_most(self) -> Takes:
        """What an evaluation takes of the graph as it is, whatever the plan."""
        return taken_at_most(self)

    @property
    def instructions(self) -> tuple[Instruction | None, ...]:
        """One for each node; None for sources."""
        return self.applied.instructions()

    @cached_property
    def equal_constants(self) -> dict[int, int]:
        """For small constants that are equal to an earlier one, the first of those."""
        return equal_constants(self.constants)

    @property
    def nbytes(self) -> int:
        """Estimate of the memory that keeping the program takes, in bytes, with all that requests may add to it."""
        return with_idle(self._own_bytes) + (self.packed.program.nbytes if self.packed else 0)

    @property
    def idle_bytes(self) -> int:
        """Bytes that storage may take that is kept between requests."""
        return with_idle(self._own_bytes) - self._own_bytes

    @cached_property
    def _own_bytes(self) -> int:
        constants = sum(value.nbytes + FLOAT32_BYTES * value.size for _, value in self.constants)
        applied = self.applied.known
        packed = [own.op.packed(own.step.attributes) for own in applied]
        positions = sum(own.op.inner(own.step) for own in applied)
        masks = 0
        if any(own.op.reach is not None for own in applied):
            # What gets a gradient, of what is inside, twice, and of what that gives and is moved.
            given = [own for own in applied if own.op.reach is not None or own.op.moves]
            masks = sum(2 * own.op.inner(own.step) + self.sizes[own.node] for own in given)
        a_plan = PLAN_BYTES + FOLDED_BYTES * self._most_folded() + masks
        least = own_bytes(self.nodes, sum(nodes for nodes, _ in packed), sum(arguments for _, arguments in packed))
        planned = PLANNED_BYTES * len(self.shapes) * (self.plans.most - 1)
        return least + planned + constants + a_plan * self.plans.most + POSITION_BYTES * positions

    def label(self, index: int) -> str:
        """The node's name, or one made of its op and index."""
        return self.nodes.names[index] or f"{self.kind(index)}_{index}"

    def kind(self, index: int) -> str:
        """An op's name, ``parameter``, ``input`` or ``constant``."""
        return self.nodes.ops[index] or type(self.nodes[index]).__name__.lower()

    def operands(self, index: int) -> tuple[int, ...]:
        """The node's operands; none of a source."""
        return self.nodes.operands_of(index)

    def is_integer(self, index: int) -> bool:
        """Whether the node holds row indices."""
        node = self.nodes.others.get(index)
        return node is not None and _is_integer(node)

    def _foldable(self, checkpoint: Checkpoint) -> dict[int, int]:
        folded: dict[int, int] = {}
        elements = 0
        constants = dict(self.constants)
        for node, own in enumerate(checked(self.instructions, checkpoint)):
            if own is None:
                foldable = node in constants and not self.is_integer(node) and self.sizes[node] <= RESIDENT
                needs = self.sizes[node]
            else:
                foldable = all(n in folded or n in constants for n in own.operands)
                needs = self.sizes[node] + own.op.inner(own.step) if foldable else 0
            if foldable and elements + needs <= FOLDED:
                folded[node] = needs
                elements += needs
        return folded

    def _most_folded(self) -> int:
        """Elements that what is folded takes, or may take if there are no plans yet."""
        if self.packed is None:
            return sum(self.folded.values())
        fixed = ~self.columns.descendants([source.node for source in self.sources])
        elements = sum(self.sizes[node] for node in np.flatnonzero(fixed).tolist())
        elements += sum(own.op.inner(own.step) for own in self.applied.known if fixed[own.node])
        return min(FOLDED, elements)


def _cast(constants: Iterable[tuple[int, Array]], dtype: np.dtype[np.floating]) -> tuple[tuple[int, Array], ...]:
    with np.errstate(over="ignore"):
        return tuple(
            (i, (value if value.dtype == np.int64 else value.astype(dtype, copy=False))[..., np.newaxis])
            for i, value in constants
        )


def _is_integer(node: Node) -> bool:
    return isinstance(node, Input | Constant) and node.integer


def _is_finite(constant: Constant) -> bool:
    value = constant.value
    largest = abs(value.item()) if value.ndim == 0 else np.abs(value).max(initial=0)
    return bool(largest <= LARGEST_FLOAT32)
