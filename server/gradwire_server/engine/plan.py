"""Plans: which instructions a request runs, in what order, and where their values live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwire_server.engine.graph import Shape
from gradwire_server.engine.ops import Op, Step
from gradwire_server.engine.shapes import size

if TYPE_CHECKING:
    from gradwire_server.engine.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Instruction:
    """One step of a plan: an op, applied to nodes, giving a node."""

    node: int
    op: Op
    operands: tuple[int, ...]
    step: Step
    work: int
    """Elementary steps a lane takes."""
    scratch: int
    """Elements a lane takes in temporary arrays, at most."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Places of nodes in an arena: for each, its first element and its shape for one example."""

    places: tuple[tuple[int, int, Shape], ...]
    """(node, offset, shape); offsets count elements of one lane."""
    elements: int
    """Elements of one lane, all nodes together."""

    @classmethod
    def of(cls, nodes: Sequence[int], shapes: Sequence[Shape]) -> Layout:
        """One after another."""
        places = []
        offset = 0
        for node in nodes:
            places.append((node, offset, shapes[node]))
            offset += size(shapes[node])
        return cls(tuple(places), offset)


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Instructions that run together: those that examples share, or those that each example has of its own."""

    instructions: tuple[Instruction, ...]
    """In the order of nodes, which is topological; none for an empty tensor, unless there are indices to check."""
    backward: tuple[Instruction, ...]
    """Those that pass a gradient on, in reverse order."""
    values: Layout
    """Of the nodes that operations give, and of inputs that must be contiguous."""
    adjoints: Layout
    """Of the nodes that get a gradient."""
    work: int
    """Elementary steps of a lane, all instructions together."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What to run for one choice of gradients and outputs."""

    shared: Stage
    """Runs once for all examples."""
    lanes: Stage
    """Runs for each example."""
    streamed: frozenset[int]
    """Per-example inputs that are read where they are."""
    given: tuple[int, ...]
    """Float sources that all examples share, and that may hold what is not finite."""
    active: tuple[bool, ...]
    """For each node, whether it gets a gradient: it is not empty, and leads from a differentiated source to the
    loss."""
    needed: tuple[bool, ...]
    """For each node, whether the loss or an output depends on it."""
    streamed_elements: int
    """Elements an example has in the streamed inputs."""
    scratch: int
    """Elements a lane takes in temporary arrays, at most."""


def make_plan(program: Program, wrt: Sequence[int], outputs: Sequence[int]) -> Plan:
    """The plan that gives the gradients in ``wrt`` and the values of ``outputs`` (indices of nodes)."""
    count = len(program.shapes)
    loss = program.graph.loss
    wanted = ancestors(program.instructions, [loss, *outputs])
    reaching = ancestors(program.instructions, [loss])
    # What goes through an empty tensor adds nothing anywhere; and its steps could need tensors that cannot be made.
    full = [size(shape) > 0 for shape in program.shapes]
    active = [False] * count
    for node in wrt:
        active[node] = reaching[node] and full[node]
    strided = [True] * count
    for instruction in program.instructions:
        if instruction is None or not wanted[instruction.node]:
            continue
        if reaching[instruction.node] and full[instruction.node]:
            active[instruction.node] = any(active[operand] for operand in instruction.operands)
        if not instruction.op.strided:
            for operand in instruction.operands:
                strided[operand] = False
    batched = [source for source in program.sources if source.per_example and wanted[source.node]]
    streamed = frozenset(source.node for source in batched if source.integer or strided[source.node])
    copied = [source.node for source in batched if source.node not in streamed]
    return Plan(
        shared=_stage(program, wanted, active, per_example=False, inputs=[]),
        lanes=_stage(program, wanted, active, per_example=True, inputs=copied),
        streamed=streamed,
        given=tuple(
            n
            for n, flag in enumerate(wanted)
            if flag and program.instructions[n] is None and not program.per_example[n] and n not in program.harmless
        ),
        active=tuple(active),
        needed=tuple(wanted),
        streamed_elements=sum(size(program.shapes[node]) for node in streamed),
        scratch=max((i.scratch for i in program.instructions if i and wanted[i.node]), default=1),
    )


def _stage(
    program: Program, wanted: Sequence[bool], active: Sequence[bool], *, per_example: bool, inputs: list[int]
) -> Stage:
    belongs = [flag == per_example for flag in program.per_example]
    operations = [i for i in program.instructions if i is not None and wanted[i.node] and belongs[i.node]]
    instructions = tuple(i for i in operations if size(program.shapes[i.node]) or i.op.index_operands)
    return Stage(
        instructions=instructions,
        backward=tuple(
            i for i in reversed(instructions) if active[i.node] and any(active[operand] for operand in i.operands)
        ),
        values=Layout.of([*inputs, *(i.node for i in operations)], program.shapes),
        adjoints=Layout.of([n for n in range(len(active)) if active[n] and belongs[n]], program.shapes),
        work=sum(i.work for i in instructions),
    )


def ancestors(instructions: Sequence[Instruction | None], roots: Sequence[int]) -> list[bool]:
    """For each node, whether one of ``roots`` depends on it (or is it)."""
    marked = [False] * len(instructions)
    for root in roots:
        marked[root] = True
    for index in range(max(roots, default=-1), -1, -1):
        instruction = instructions[index]
        if marked[index] and instruction is not None:
            for operand in instruction.operands:
                marked[operand] = True
    return marked
