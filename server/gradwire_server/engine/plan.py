"""Plans: which instructions a request runs, in what order, and where their values live."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.graph import Array
from gradwire_server.engine.instruction import Instruction, passes
from gradwire_server.engine.layout import Layout
from gradwire_server.engine.lowering import Lowering, Schedule, TapeRun
from gradwire_server.engine.measure import Measure
from gradwire_server.engine.merging import merged
from gradwire_server.engine.reach import Reach
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
    constant: tuple[int, ...]
    """Those of them that are kept there, as what depends on constants alone is."""
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
    untold: tuple[int, ...]
    """Those of them that may hold what is not finite while all values do not."""
    given: tuple[int, ...]
    """Float sources that all examples share, that may hold what is not finite, and are not copied to shared values."""
    active: tuple[bool, ...]
    """For each node, whether it gets a gradient: it is not empty, and leads from a differentiated source to the
    loss."""
    needed: tuple[bool, ...]
    """For each node, whether the loss or an output depends on it."""
    merged: bool
    """Whether some instructions are not those of the graph."""
    lost: Mapping[int, NDArray[np.bool_]]
    """By node, [*shape], elements that get no gradient, whatever is added to theirs; only where others get one."""
    direct: tuple[int, ...]
    """Shared sources whose gradient in each example is written where the results are."""
    streamed_elements: int
    """Elements an example has in the streamed inputs."""
    scratch: int
    """Elements a lane takes in temporary arrays, at most, for itself."""
    part_scratch: int
    """Elements that each of the lanes takes besides that an op takes at once which goes through them in parts."""
    shared_scratch: int
    """Elements that temporary arrays take besides, whatever the number of lanes."""
    folded: dict[np.dtype[np.floating], Array] = field(default_factory=dict)
    """By dtype, the first elements of the shared values, which depend on constants alone; once they are known, and if
    they are finite."""
    measures: dict[Hashable, Measure] = field(default_factory=dict)
    """What jobs take, by what was asked."""


def make_plan(
    program: Program,
    wrt: Sequence[int],
    outputs: Sequence[int],
    *,
    separate: bool,
    plain: bool,
    checkpoint: Checkpoint,
) -> Plan:
    """The plan that gives the gradients in ``wrt`` and the values of ``outputs`` (indices of nodes).

    If ``separate``, each example has gradients of its own; if ``plain``, the instructions are those of the graph.
    Raises what ``checkpoint`` raises, which is called every few hundred nodes.
    """
    count = len(program.shapes)
    loss = program.graph.loss
    instructions: Instructions = program.instructions
    wanted = ancestors(instructions, [loss, *outputs])
    checkpoint()
    if not plain:
        instructions = merged(program, instructions, wanted, {loss, *outputs}, checkpoint)
        wanted = ancestors(instructions, [loss, *outputs])
    reaching = ancestors(instructions, [loss])
    checkpoint()
    # What goes through an empty tensor adds nothing anywhere; and its steps could need tensors that cannot be made.
    full = [elements > 0 for elements in program.sizes]
    active = [False] * count
    for node in wrt:
        active[node] = reaching[node] and full[node]
    reach = Reach(program, active)
    strided = [True] * count
    for instruction in checked(instructions, checkpoint):
        if instruction is None or not wanted[instruction.node]:
            continue
        if reaching[instruction.node] and full[instruction.node]:
            reach.note(instruction)
        if not instruction.op.strided:
            for operand in instruction.operands:
                strided[operand] = False
    checkpoint()
    replaced = any(i is not own for i, own in zip(instructions, program.instructions, strict=True))
    if reach.inside:
        instructions = [i and reach.told(i) for i in instructions]
    batched = [source for source in program.sources if source.per_example and wanted[source.node]]
    streamed = frozenset(source.node for source in batched if source.integer or strided[source.node])
    copied = [source.node for source in batched if source.node not in streamed]
    telling = [i for i in instructions if i and wanted[i.node] and i.op.telling and full[i.node]]
    checkpoint()
    told = {operand for i in telling for operand in i.operands}
    written = _written(program, instructions, wanted, active, checkpoint)
    direct = [
        node
        for node in wrt
        if separate and node in written and not program.per_example[node] and _is_direct(program, node, *written[node])
    ]
    shared, lanes = _stages(program, instructions, wanted, active, copied, written, direct, checkpoint)
    taped = (step.instruction.operands for step in shared.schedule.forward if isinstance(step, TapeRun))
    copied_ones = {*shared.resident, *chain.from_iterable(taped)}
    scratch, part_scratch, shared_scratch = _scratch(
        program, (shared, lanes), active, direct, checkpoint, separate=separate
    )
    return Plan(
        shared=shared,
        lanes=lanes,
        streamed=streamed,
        untold=tuple(n for n in streamed if n not in told and not program.is_integer(n)),
        given=tuple(
            n
            for n, flag in enumerate(checked(wanted, checkpoint))
            if flag
            and program.instructions[n] is None
            and not program.per_example[n]
            and n not in program.harmless
            and n not in copied_ones
        ),
        active=tuple(active),
        needed=tuple(wanted),
        streamed_elements=sum(size(program.shapes[node]) for node in streamed),
        merged=replaced,
        lost=reach.lost,
        direct=tuple(direct),
        scratch=scratch,
        part_scratch=part_scratch,
        shared_scratch=shared_scratch,
    )


Instructions = Sequence[Instruction | None]
"""One for each node; None for sources."""

Written = Mapping[int, tuple[Instruction, int]]
"""By node, the instruction that alone passes a gradient on to it, and as which operand; only those that NumPy does."""


def _written(
    program: Program,
    instructions: Instructions,
    wanted: Sequence[bool],
    active: Sequence[bool],
    checkpoint: Checkpoint,
) -> Written:
    found: dict[int, tuple[Instruction, int] | None] = {program.graph.loss: None}
    for i in checked(instructions, checkpoint):
        if i is None or not wanted[i.node] or not active[i.node]:
            continue
        alone = program.kernels[i.node] is None
        for slot, operand in enumerate(i.operands):
            found[operand] = (i, slot) if alone and operand not in found else None
    items = checked(found.items(), checkpoint)
    return {node: edge for node, edge in items if edge is not None and active[node]}


def _is_direct(program: Program, node: int, instruction: Instruction, slot: int) -> bool:
    return program.per_example[instruction.node] and instruction.op.direct(instruction.shapes(program.shapes), slot)


def _scratch(
    program: Program,
    stages: Sequence[Stage],
    active: Sequence[bool],
    direct: Sequence[int],
    checkpoint: Checkpoint,
    *,
    separate: bool,
) -> tuple[int, int, int]:
    """Elements that temporary arrays take, of a lane, of a lane of a part, and of all lanes together."""
    a_lane = together = 1
    in_part = 0
    known: set[object] = set()
    for stage in stages:
        for i in checked(stage.instructions, checkpoint):
            alone = i.op.elementwise and program.sizes[i.node] == 1
            if alone and (i.op.name, len(i.operands)) in known:
                continue  # As most of a swarm of scalars.
            shapes, out = i.shapes(program.shapes), program.shapes[i.node]
            own = [program.per_example[n] or (separate and active[n] and n not in direct) for n in i.operands]
            a_case = i.op.name, len(own) if alone else (id(i.step.prepared), tuple(shapes), out, tuple(own))
            if a_case in known:
                continue
            known.add(a_case)
            part, once = i.op.in_parts(i.step)
            in_part = max(in_part, part)
            together = max(together, once + i.op.scratch(i.step, shapes, out, [True] * len(own)))
            if separate or stage is stages[-1]:
                a_lane = max(a_lane, i.op.scratch(i.step, shapes, out, own))
    return a_lane, in_part, together


def _stages(
    program: Program,
    instructions: Instructions,
    wanted: Sequence[bool],
    active: Sequence[bool],
    copied: Sequence[int],
    written: Written,
    direct: Sequence[int],
    checkpoint: Checkpoint,
) -> tuple[Stage, Stage]:
    """What examples share, and what each has of its own, into whose values the inputs ``copied`` go."""
    alone: dict[int, set[int]] = defaultdict(set)
    for i, slot in checked(written.values(), checkpoint):
        alone[i.node].add(slot)
    operations = [
        i._replace(step=i.step._replace(written=frozenset(alone[i.node]))) if i.node in alone else i
        for i in checked(instructions, checkpoint)
        if i is not None and wanted[i.node]
    ]
    # What examples share is summed over blocks before its own backward steps begin.
    in_block = {node for node, (i, _) in checked(written.items(), checkpoint) if program.per_example[i.node]}
    read = {node for i in checked(operations, checkpoint) if program.kernels[i.node] is not None for node in i.operands}
    shared = [
        n for n in checked(sorted(read), checkpoint) if program.instructions[n] is None and not program.per_example[n]
    ]
    stages: list[Stage] = []
    lowering: Lowering | None = None
    for per_example, resident in ((False, shared), (True, copied)):
        own = [i for i in checked(operations, checkpoint) if program.per_example[i.node] == per_example]
        full = tuple(i for i in checked(own, checkpoint) if program.sizes[i.node] or i.op.index_operands)
        empty = [i.node for i in checked(own, checkpoint) if not program.sizes[i.node] and not i.op.index_operands]
        targets = [
            n
            for n, instruction in enumerate(checked(program.instructions, checkpoint))
            if instruction is None and active[n] and program.per_example[n] == per_example and n not in direct
        ]
        lowering = Lowering(program, active, lowering, full, [*resident, *empty], targets, in_block, checkpoint)
        stages.append(
            Stage(
                instructions=full,
                backward=tuple(i for i in checked(reversed(full), checkpoint) if passes(i, active)),
                schedule=lowering.schedule,
                resident=tuple(n for n in resident if n not in lowering.folded),
                constant=tuple(n for n in resident if n in lowering.folded),
                work=sum(i.work for i in full),
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
