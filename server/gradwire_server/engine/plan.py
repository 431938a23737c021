"""Plans: which instructions a request runs, in what order, and where their values live."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from gradwire_server.engine.instruction import Instruction, passes
from gradwire_server.engine.layout import Layout
from gradwire_server.engine.lowering import Lowering, Schedule
from gradwire_server.engine.shapes import size

if TYPE_CHECKING:
    from gradwire_server.engine.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """Instructions that run together: those that examples share, or those that each example has of its own."""

    instructions: tuple[Instruction, ...]
    """In the order of nodes, which is topological; none for an empty tensor, unless there are indices to check."""
    backward: tuple[Instruction, ...]
    """Those that pass a gradient on, in reverse order."""
    schedule: Schedule
    """The same as it is run, and where values and gradients are."""
    resident: tuple[int, ...]
    """Sources whose values are copied to the stage's own."""
    work: int
    """Elementary steps of a lane, all instructions together."""

    @property
    def values(self) -> Layout:
        """Of the nodes that operations give, and of resident sources."""
        return self.schedule.values

    @property
    def adjoints(self) -> Layout:
        """Of the nodes that get a gradient."""
        return self.schedule.adjoints


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
    shared, lanes = _stages(program, wanted, active, copied)
    return Plan(
        shared=shared,
        lanes=lanes,
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


def _stages(
    program: Program, wanted: Sequence[bool], active: Sequence[bool], copied: Sequence[int]
) -> tuple[Stage, Stage]:
    """What examples share, and what each has of its own, into whose values the inputs ``copied`` go."""
    operations = [i for i in program.instructions if i is not None and wanted[i.node]]
    read = {node for i in operations if program.kernels[i.node] is not None for node in i.operands}
    shared = [n for n in sorted(read) if program.instructions[n] is None and not program.per_example[n]]
    stages: list[Stage] = []
    lowering: Lowering | None = None
    for per_example, resident in ((False, shared), (True, copied)):
        own = [i for i in operations if program.per_example[i.node] == per_example]
        instructions = tuple(i for i in own if size(program.shapes[i.node]) or i.op.index_operands)
        empty = [i.node for i in own if not size(program.shapes[i.node]) and not i.op.index_operands]
        targets = [
            n
            for n, instruction in enumerate(program.instructions)
            if instruction is None and active[n] and program.per_example[n] == per_example
        ]
        lowering = Lowering(program, active, lowering, instructions, [*resident, *empty], targets)
        stages.append(
            Stage(
                instructions=instructions,
                backward=tuple(i for i in reversed(instructions) if passes(i, active)),
                schedule=lowering.schedule,
                resident=tuple(resident),
                work=sum(i.work for i in instructions),
            )
        )
    return stages[0], stages[1]


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
