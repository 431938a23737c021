"""The NumPy executor: runs the instructions of a plan, straight from the op table."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from gradwire_server.engine.graph import Array
from gradwire_server.engine.ops.op import IndexRangeError
from gradwire_server.engine.plan import Instruction, Layout
from gradwire_server.engine.shapes import size, unbroadcast

Checkpoint = Callable[[], None]
"""Called every now and then during a computation; stops it by raising."""


def unhurried() -> None:
    """A checkpoint of work that somebody waits for however long it takes."""


Values = list[Array]
"""An array [*shape, lanes] for each node; ``UNSET`` where a plan needs none."""

Adjoints = list[Array | None]
"""The gradient of the loss in each node's value, in its shape; None where none is wanted."""

UNSET: Array = np.empty(0)

BETWEEN_CHECKPOINTS = 512
"""Instructions that run, and nodes that are checked, without asking whether anybody still waits."""

LARGE = 1 << 16
"""Elementary steps a lane of an instruction before which that is asked in any case."""


class StepError(Exception):
    """An index out of range, with the instruction that met it."""

    def __init__(self, node: int, error: IndexRangeError) -> None:
        super().__init__(node, error)
        self.node = node
        self.error = error


class Arena:
    """Storage for the nodes of a layout, one buffer for up to ``lanes`` lanes."""

    def __init__(self, layout: Layout, lanes: int, dtype: np.dtype[np.floating]) -> None:
        self.layout = layout
        self._storage = np.empty(layout.elements * lanes, dtype)

    def place(self, arrays: Values | Adjoints, lanes: int) -> Array:
        """Put arrays of ``lanes`` lanes at their nodes' places in ``arrays``; gives the flat buffer of all."""
        for node, offset, shape in self.layout.places:
            flat = self._storage[offset * lanes : (offset + size(shape)) * lanes]
            arrays[node] = flat.reshape(*shape, lanes)
        return self._storage[: self.layout.elements * lanes]


def forward(instructions: Sequence[Instruction], values: Values, checkpoint: Checkpoint) -> None:
    """Compute the value of each instruction's node into its place in ``values``.

    Raises:
        StepError: an index is out of range.
    """
    for start in range(0, len(instructions), BETWEEN_CHECKPOINTS):
        checkpoint()
        for i in instructions[start : start + BETWEEN_CHECKPOINTS]:
            if i.work > LARGE:
                checkpoint()
            try:
                i.op.forward(i.step, [values[operand] for operand in i.operands], values[i.node])
            except IndexRangeError as error:
                raise StepError(i.node, error) from None


def backward(
    instructions: Sequence[Instruction],
    values: Values,
    adjoints: Adjoints,
    checkpoint: Checkpoint,
    observe: Callable[[Instruction, int, Array], None] | None = None,
) -> None:
    """Add each node's gradient, times the local derivatives, to its operands' gradients in ``adjoints``.

    ``instructions`` come in reverse order. ``observe(instruction, slot, contribution)`` sees what went along
    each edge, after it was added.
    """
    for start in range(0, len(instructions), BETWEEN_CHECKPOINTS):
        checkpoint()
        for i in instructions[start : start + BETWEEN_CHECKPOINTS]:
            adjoint = adjoints[i.node]
            if adjoint is None:
                continue
            if i.work > LARGE:
                checkpoint()
            operands = [values[operand] for operand in i.operands]
            targets = [adjoints[operand] for operand in i.operands]
            contributions = i.op.vjp(i.step, adjoint, operands, values[i.node], targets)
            for slot, (target, contribution) in enumerate(zip(targets, contributions, strict=True)):
                if target is None or contribution is None:
                    continue
                fitting = contribution
                if contribution.shape != target.shape:
                    fitting = unbroadcast(contribution, target.shape)
                np.add(target, fitting, out=target)
                if observe is not None:
                    observe(i, slot, fitting)
