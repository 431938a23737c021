"""Instructions that make others needless: what a plan runs in place of what the graph says.

They may round otherwise than the graph as it is written. So what such a plan gives counts only if all of it is finite;
if not, the plain plan runs, and says where a number went wrong.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING

from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.graph import Shape
from gradwire_server.engine.instruction import Instruction, View
from gradwire_server.engine.ops import OPS, Step
from gradwire_server.engine.ops.op import Attributes
from gradwire_server.engine.shapes import size

if TYPE_CHECKING:
    from gradwire_server.engine.program import Program


def merged(
    program: Program,
    instructions: Sequence[Instruction | None],
    wanted: Sequence[bool],
    kept: Collection[int],
    checkpoint: Checkpoint,
) -> list[Instruction | None]:
    """The instructions in place of ``instructions``; those that nothing needs any longer are still among them.

    ``wanted`` says which nodes are computed, ``kept`` holds those whose values are read by others than instructions.
    """
    result = list(instructions)
    running = [i for i in checked(instructions, checkpoint) if i is not None and wanted[i.node]]
    readers = Counter(n for i in checked(running, checkpoint) for n in i.operands)
    for i in checked(running, checkpoint):
        if i.op.name in _MERGE:
            producers = [result[n] if readers[n] == 1 and n not in kept else None for n in i.operands]
            result[i.node] = _MERGE[i.op.name](program, i, producers)
    return result


def _sum(program: Program, i: Instruction, producers: Sequence[Instruction | None]) -> Instruction:
    """A sum of products as a product of matrices, if the last axes are summed and all examples share one factor."""
    product = producers[0]
    if product is None or product.op.name != "mul" or len(product.operands) != 2:
        return i
    shape, axes = program.shapes[product.node], i.step.attributes["axes"]
    first = len(shape) - len(axes)
    factors = [(1,) * (len(shape) - len(own)) + own for own in map(program.shapes.__getitem__, product.operands)]
    rows, columns = size(shape[:first]), size(shape[first:])
    # A factor that has no rows is a vector.
    order = sorted((0, 1), key=lambda slot: -size(factors[slot][:first]))
    operands = tuple(product.operands[slot] for slot in order)
    fitting = (
        axes == tuple(range(first, len(shape)))
        and all(factor[first:] == shape[first:] for factor in factors)
        and [size(factors[slot][:first]) for slot in order] == [rows, 1]
        and rows * columns > 0
        and program.per_example[operands[0]] != program.per_example[operands[1]]
    )
    if not fitting:
        return i
    shapes: list[Shape] = [(rows, columns) if rows > 1 else (columns,), (columns,)]
    out: Shape = (rows,) if rows > 1 else ()
    op, step = OPS["matmul"], Step({}, i.step.ties)
    return Instruction(
        node=i.node,
        op=op,
        operands=operands,
        step=step,
        work=op.work(step, shapes, out),
        views=(*map(View, shapes), View(out)),
    )


def _matmul(program: Program, i: Instruction, producers: Sequence[Instruction | None]) -> Instruction:
    """A product of matrices that are read where they are, though reshaped or transposed."""
    operands = list(i.operands)
    views: list[View | None] = [None, None, None]
    for slot, producer in enumerate(producers):
        if producer is not None and producer.op.name in _VIEWS and not producer.views:
            operands[slot] = producer.operands[0]
            views[slot] = _VIEWS[producer.op.name](program.shapes[producer.node], producer.step.attributes)
    return i._replace(operands=tuple(operands), views=tuple(views)) if any(views) else i


def _reshaped(shape: Shape, attributes: Attributes) -> View:
    return View(shape)


def _transposed(shape: Shape, attributes: Attributes) -> View:
    return View(shape, attributes["axes"])


_MERGE: Mapping[str, Callable[[Program, Instruction, Sequence[Instruction | None]], Instruction]] = {
    "sum": _sum,
    "matmul": _matmul,
}

_VIEWS: Mapping[str, Callable[[Shape, Attributes], View]] = {"reshape": _reshaped, "transpose": _transposed}
"""What gives a view of its operand."""
