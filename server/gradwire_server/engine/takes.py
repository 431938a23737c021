"""How many elements an evaluation takes, by what they are for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from gradwire_server.engine.ops import OPS, Step
from gradwire_server.engine.ops.scalars import CODES

if TYPE_CHECKING:
    from gradwire_server.engine.program import Program


@dataclass(frozen=True, slots=True, kw_only=True)
class Takes:
    """Elements."""

    values: int
    """Of an example's own nodes."""
    adjoints: int
    shared_values: int
    """Of nodes that examples share."""
    sums: int
    """Of the gradients of those."""
    gradients: int
    """Of an example whose backward steps are run one by one."""
    scratch: int
    """In temporary arrays, as a plan has them; so are the next two."""
    part_scratch: int
    shared_scratch: int
    nodes: int
    """How many there are, of which views may be made."""


def taken_at_most(program: Program) -> Takes:
    """With any plan of the graph as it is; none is made for that."""
    columns = program.columns
    arities = columns.arities
    # A node, and what is between the steps of one that the kernel takes operand by operand.
    elements = np.array(program.sizes)
    elements[columns.codes > 0] *= np.maximum(1, arities[columns.codes > 0] - 1)
    scratch, part, shared = 1, 0, 1
    for i in program.applied.known:
        shapes, out = i.shapes(program.shapes), program.shapes[i.node]
        if i.op.kernel is not None and not columns.codes[i.node]:
            elements[i.node] *= max(1, len(shapes) - 1)
        elements[i.node] += i.op.inner(i.step)
        own = i.op.scratch(i.step, shapes, out, [True] * len(shapes))
        of_part, once = i.op.in_parts(i.step)
        scratch, part, shared = max(scratch, own), max(part, of_part), max(shared, once + own)
    for code in np.unique(columns.codes[columns.codes > 0]).tolist():
        most = int(arities[columns.codes == code].max())
        own = OPS[CODES[code]].scratch(Step({}, program.graph.ties), [()] * most, (), [True] * most)
        scratch, shared = max(scratch, own), max(shared, own)
    of_examples = np.array(program.per_example)
    a_lane, together = int(elements[of_examples].sum()), int(elements[~of_examples].sum())
    return Takes(
        values=a_lane,
        adjoints=a_lane,
        shared_values=together,
        sums=together,
        gradients=a_lane + together,
        scratch=scratch,
        part_scratch=part,
        shared_scratch=shared,
        nodes=len(program.shapes),
    )
