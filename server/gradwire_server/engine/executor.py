"""The executor: goes through the steps of a plan; what the kernel does not do it does with NumPy, from the op table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np

from gradwire_server.engine import ops, shapes
from gradwire_server.engine.checkpoints import BETWEEN_CHECKPOINTS, Checkpoint
from gradwire_server.engine.graph import Array
from gradwire_server.engine.instruction import ByNode, Instruction
from gradwire_server.engine.lowering import Run, Step, TapeRun
from gradwire_server.engine.ops.op import IndexRangeError, Looked
from gradwire_server.errors import Reason, Refusal, refuse

if TYPE_CHECKING:
    from gradwire_server.engine.program import Program

Values = ByNode[Array]
"""An array [*shape, lanes] for each node; ``UNSET`` where a plan needs none."""

Adjoints = ByNode[Array | None]
"""The gradient of the loss in each node's value, in its shape; None where none is wanted."""

Kernel = Callable[[Run | TapeRun], bool]
"""Does the rows of a run, or a tape; gives whether all is finite that it has looked at, which is inside of tapes."""


def no_runs(run: Run | TapeRun) -> bool:
    """For steps without runs."""
    raise AssertionError(run)


LARGE = 1 << 16
"""Elementary steps a lane of an instruction before which, and in which, that is asked in any case."""


def forward(
    program: Program,
    steps: Sequence[Step],
    values: Values,
    start: int,
    checkpoint: Checkpoint,
    kernel: Callable[[Run | TapeRun], object] = no_runs,
) -> None:
    """Compute the value of each instruction's node into its place in ``values``; the kernel does runs.

    Examples count from ``start``.

    Raises:
        Refusal: INDEX_OUT_OF_RANGE; whatever ``checkpoint`` raises.
    """
    for first in range(0, len(steps), BETWEEN_CHECKPOINTS):
        checkpoint()
        for i in steps[first : first + BETWEEN_CHECKPOINTS]:
            if not isinstance(i, Instruction):
                kernel(i)
                checkpoint()
                continue
            try:
                i.op.forward(_asking(i, checkpoint), i.taken(values), i.result(values[i.node]))
            except IndexRangeError as error:
                raise _out_of_range(program, i, error, start) from None


def _asking(i: Instruction, checkpoint: Checkpoint) -> ops.Step:
    """The step of the op, which asks now and then if it is a large one; so it is asked now."""
    if i.work <= LARGE:
        return i.step
    checkpoint()
    return i.step._replace(checkpoint=checkpoint)


def _out_of_range(program: Program, i: Instruction, error: IndexRangeError, start: int) -> Refusal:
    label = program.label(i.node)
    node = program.origins[i.node] if program.origins else i.node
    own = any(program.per_example[i.operands[slot]] for slot in i.op.index_operands)
    example = f" of example {start + error.lane}" if own else ""
    return refuse(
        Reason.INDEX_OUT_OF_RANGE,
        f'node "{label}" (nodes[{node}]): index {error.index} at position '
        f"{shapes.text(error.position)}{example} is out of range for {error.rows} rows",
        f"graph.nodes[{node}]",
        node=label,
        index=error.index,
        rows=error.rows,
    )


def backward(
    steps: Sequence[Step],
    values: Values,
    adjoints: Adjoints,
    checkpoint: Checkpoint,
    observe: Callable[[Instruction, int, Array], None] | None = None,
    kernel: Kernel = no_runs,
) -> bool:
    """Add each node's gradient, times the local derivatives, to its operands' gradients in ``adjoints``.

    ``steps`` come in reverse order; the kernel does runs. ``observe(instruction, slot, contribution)`` sees what went
    along each edge, after it was added. Returns whether all is finite that ops wrote themselves, or have inside.
    """
    finite = True
    for start in range(0, len(steps), BETWEEN_CHECKPOINTS):
        checkpoint()
        for i in steps[start : start + BETWEEN_CHECKPOINTS]:
            if not isinstance(i, Instruction):
                finite &= kernel(i)
                checkpoint()
                continue
            adjoint = adjoints[i.node]
            if adjoint is None:
                continue
            step, targets = _asking(i, checkpoint), i.taken(adjoints)
            contributions = i.op.vjp(step, i.result(adjoint), i.taken(values), i.result(values[i.node]), targets)
            for slot, (target, contribution) in enumerate(zip(step.over(targets, adjoint), contributions, strict=True)):
                if target is None or contribution is None:
                    continue
                added, looked = _receive(contribution, target, anew=slot in i.step.written)
                finite &= looked
                if observe is not None:
                    observe(i, slot, added)
    return finite


def _receive(contribution: Array | Looked | bool, target: Array, *, anew: bool) -> tuple[Array, bool]:
    """Add to a gradient, unless the op wrote it; gives what was added, and whether what the op looked at is finite."""
    if isinstance(contribution, bool):
        return target, contribution
    if isinstance(contribution, Looked):
        return _add(contribution.contribution, target, anew=anew), contribution.finite
    return _add(contribution, target, anew=anew), True


def _add(contribution: Array, target: Array, *, anew: bool) -> Array:
    """Add to a gradient, which if ``anew`` is zero so far; gives what was added."""
    if contribution.shape != target.shape:
        contribution = shapes.unbroadcast(contribution, target.shape)
    np.add(0 if anew else target, contribution, out=target)
    return contribution
