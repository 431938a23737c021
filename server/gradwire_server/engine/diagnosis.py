"""Which backward step made the first non-finite gradient: the steps again, one by one, examples kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradwire_server.engine import culprits, nonfinite
from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.executor import Adjoints, Values, backward
from gradwire_server.engine.graph import Array, Shape
from gradwire_server.engine.instruction import Instruction
from gradwire_server.engine.layout import Layout
from gradwire_server.engine.memory import Arena
from gradwire_server.engine.nonfinite import NonFinite, Phase
from gradwire_server.engine.plan import Plan
from gradwire_server.engine.program import Program
from gradwire_server.engine.shapes import one_lane

AT_ONCE_BYTES = 1 << 20
"""Bytes that the gradients of the examples may take that are looked at together, unless one alone takes more."""


class _FoundError(Exception):
    """Ends the backward steps at the first non-finite gradient."""

    def __init__(
        self, instruction: Instruction, slot: int, adjoint: Array, gradient: Array, place: tuple[Shape, int]
    ) -> None:
        super().__init__(instruction.node, slot)
        self.instruction = instruction
        self.slot = slot
        self.adjoint = adjoint
        self.gradient = gradient
        self.place = place


def bad_step(
    program: Program,
    plan: Plan,
    instructions: Sequence[Instruction],
    values: Values,
    adjoints: Adjoints,
    start: int,
    checkpoint: Checkpoint,
) -> NonFinite | None:
    """Run backward steps until one gives a non-finite gradient; ``adjoints`` hold what they begin with.

    Examples count from ``start``.
    """

    def observe(instruction: Instruction, slot: int, _: Array) -> None:
        adjoint, gradient = adjoints[instruction.node], adjoints[instruction.operands[slot]]
        place = None if gradient is None else _first_bad(plan, instruction.operands[slot], gradient)
        if adjoint is not None and gradient is not None and place is not None:
            raise _FoundError(instruction, slot, adjoint, gradient, place)

    try:
        for step in instructions:
            seed = adjoints[step.node]
            inside = None if seed is None else step.op.bad_gradient(step.step, seed, step.taken(values))
            if inside is not None:
                return nonfinite.report_inside(program, Phase.GRADIENT, step.node, inside, start + inside.lane)
            backward([step], values, adjoints, checkpoint, observe)
    except _FoundError as error:
        # Without what led there, which holds the temporary arrays of the step.
        found = error.with_traceback(None)
    else:
        return None
    node, (position, lane) = found.instruction.node, found.place
    example = start + lane if program.per_example[node] else None
    operands = [one_lane(values[operand], lane) for operand in found.instruction.operands]
    out, adjoint = one_lane(values[node], lane), one_lane(found.adjoint, lane)
    shown = culprits.of_gradient(found.instruction, operands, out, adjoint, found.slot, position)
    return nonfinite.report(program, Phase.GRADIENT, node, found.gradient, found.place, example, shown)


def _first_bad(plan: Plan, node: int, gradient: Array) -> tuple[Shape, int] | None:
    lost = plan.lost.get(node)
    return nonfinite.first_bad(gradient if lost is None else np.where(lost[..., np.newaxis], 0, gradient))


def shared_adjoints(plan: Plan) -> list[int]:
    """The shared nodes that get a gradient, the last first."""
    return sorted((*plan.shared.adjoints.places, *plan.direct), reverse=True)


def gradients_of_lane(program: Program, plan: Plan) -> int:
    """Elements of the gradients of an example whose backward steps are run one by one."""
    shared = plan.shared.adjoints.elements + sum(program.sizes[node] for node in plan.direct)
    return plan.lanes.adjoints.elements + shared


def lanes_at_once(elements: int, lanes: int, itemsize: int) -> int:
    """How many of the examples are looked at together, if the gradients of each have so many elements."""
    return max(1, min(lanes, AT_ONCE_BYTES // max(1, elements * itemsize)))


def bad_step_of_block(
    program: Program,
    plan: Plan,
    values: Values,
    start: int,
    known: NonFinite | None,
    checkpoint: Checkpoint,
) -> NonFinite | None:
    """The same for a block of examples, with the steps that examples share in their places among the others.

    Only steps before that of ``known`` are run, which is reported already.
    """
    steps = sorted((*plan.lanes.backward, *plan.shared.backward), key=lambda step: -step.node)
    loss = values[program.graph.loss]
    lanes = loss.shape[-1]
    at_once = lanes_at_once(gradients_of_lane(program, plan), lanes, loss.itemsize)
    own = Arena(plan.lanes.adjoints, at_once, loss.dtype)
    shared = Arena(Layout.of(shared_adjoints(plan), program.shapes), at_once, loss.dtype)
    report: NonFinite | None = None
    for first in range(0, lanes, at_once):
        last = min(lanes, first + at_once)
        part = [
            values[node][..., first:last] if per_example else values[node]
            for node, per_example in enumerate(program.per_example)
        ]
        adjoints: list[Array | None] = [None] * len(part)
        own.place(adjoints, last - first, checkpoint).fill(0)
        shared.place(adjoints, last - first, checkpoint).fill(0)
        seed = adjoints[program.graph.loss]
        if seed is not None:
            np.add(seed, 1, out=seed)
        if known is not None and known.phase is Phase.GRADIENT:
            steps = [step for step in steps if step.node > known.node]
        report = bad_step(program, plan, steps, part, adjoints, start + first, checkpoint) or report
        known = report or known
    return report


def bad_sum(program: Program, plan: Plan, adjoints: Adjoints) -> NonFinite | None:
    """The report of the last shared node whose gradient, summed over examples, is not finite."""
    for node in shared_adjoints(plan):
        adjoint = adjoints[node]
        found = None if adjoint is None else _first_bad(plan, node, adjoint)
        if adjoint is not None and found is not None:
            return nonfinite.report(program, Phase.REDUCTION, node, adjoint, found)
    return None
