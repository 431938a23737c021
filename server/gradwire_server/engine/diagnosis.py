"""Which backward step made the first non-finite gradient: the steps again, one by one, examples kept apart."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from gradwire_server.engine import nonfinite
from gradwire_server.engine.executor import Adjoints, Arena, Checkpoint, Values, backward
from gradwire_server.engine.graph import Array, Shape
from gradwire_server.engine.nonfinite import NonFinite, Phase
from gradwire_server.engine.plan import Instruction, Plan
from gradwire_server.engine.program import Program


class _FoundError(Exception):
    """Ends the backward steps at the first non-finite gradient."""

    def __init__(self, node: int, gradient: Array, place: tuple[Shape, int]) -> None:
        super().__init__(node)
        self.node = node
        self.gradient = gradient
        self.place = place


def bad_step(
    program: Program,
    instructions: Sequence[Instruction],
    values: Values,
    adjoints: Adjoints,
    start: int | None,
    checkpoint: Checkpoint,
) -> NonFinite | None:
    """Run backward steps until one gives a non-finite gradient; ``adjoints`` hold what they begin with.

    Examples count from ``start``; None if the steps belong to no example.
    """

    def observe(instruction: Instruction, slot: int, _: Array) -> None:
        gradient = adjoints[instruction.operands[slot]]
        place = None if gradient is None else nonfinite.first_bad(gradient)
        if gradient is not None and place is not None:
            raise _FoundError(instruction.node, gradient, place)

    try:
        backward(instructions, values, adjoints, checkpoint, observe)
    except _FoundError as found:
        example = None if start is None else start + found.place[1]
        return nonfinite.report(program, Phase.GRADIENT, found.node, values, found.gradient, found.place, example)
    return None


def bad_step_of_block(
    program: Program,
    plan: Plan,
    instructions: Sequence[Instruction],
    values: Values,
    start: int,
    lanes_at_once: int,
    checkpoint: Checkpoint,
) -> NonFinite | None:
    """The same for a block whose gradients in shared nodes were summed: here every example has its own."""
    loss = values[program.graph.loss]
    lanes = loss.shape[-1]
    own = Arena(plan.lanes.adjoints, lanes_at_once, loss.dtype)
    shared = Arena(plan.shared.adjoints, lanes_at_once, loss.dtype)
    report: NonFinite | None = None
    for first in range(0, lanes, lanes_at_once):
        last = min(lanes, first + lanes_at_once)
        part = [
            value[..., first:last] if per_example else value
            for value, per_example in zip(values, program.per_example, strict=True)
        ]
        adjoints: Adjoints = [None] * len(values)
        own.place(adjoints, last - first).fill(0)
        shared.place(adjoints, last - first).fill(0)
        seed = adjoints[program.graph.loss]
        if seed is not None:
            np.add(seed, 1, out=seed)
        report = nonfinite.first(report, bad_step(program, instructions, part, adjoints, start + first, checkpoint))
    return report
