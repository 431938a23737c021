"""What became of a request that did not end well: an index out of range, a number that is not finite, a stop.

The machine says which tiles it found something in. The lowest example among these is looked for by running parts of a
tile, and explained by the reference.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.explain.nonfinite import NonFinite
from gradwire_server.engine.explain.report import bad_sum, explain_non_finite
from gradwire_server.engine.graph.graph import Array, Input
from gradwire_server.engine.graph.opcodes import Opcode
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.question import facts_of
from gradwire_server.engine.reference.arrangement import IndexRangeError
from gradwire_server.engine.reference.interpreter import out_of_range
from gradwire_server.engine.run.job import Job
from gradwire_server.errors import Refusal

MAX_EXPLAINED = 64
"""Examples that are explained at most; only rounding lets the reference find nothing where the machine did."""


def index_refusal(job: Job) -> Refusal:
    """The refusal of a row index that is out of range: that of the lowest example, then of the first node."""
    checked, arrays = job.program.checked, job.query.arrays
    graph, found = checked.graph, []
    needed = facts_of(checked, job.bound.question).needed
    indexing = (graph.opcodes == Opcode.TAKE) | (graph.opcodes == Opcode.SCATTER_ADD)
    for node in np.flatnonzero(needed & indexing).tolist():
        table, indices = graph.operands_of(node)
        own = graph.attributes.get(node, {})
        content, axis = graph.contents[indices], own.get("axis", 0)
        rows = own["size"] if "size" in own else checked.shape(table)[axis]
        if isinstance(content, Input):
            wrong = np.argwhere((arrays[content.name] < -rows) | (arrays[content.name] >= rows))
            if len(wrong):
                place = tuple(wrong[0].tolist())
                example, position = (place[0], place[1:]) if content.per_example else (-1, place)
                index = int(arrays[content.name][place])
                found.append((example, node, IndexRangeError(position, index, rows)))
    example, node, error = min(found, key=lambda own: own[:2])
    return out_of_range(checked, node, error, None if example < 0 else example)


class Search:
    """The search for what is to be reported.

    Args:
        job: The request.
        status: What the machine found in what examples share, and after all tiles.
        flags: [tiles], what it found in each.
        run_part: Runs examples from one number to another alone, and gives what was found.
        checkpoint: Called between parts; may raise.
    """

    def __init__(
        self,
        job: Job,
        flags: Array,
        run_part: Callable[[int, int], int],
        checkpoint: Checkpoint,
    ) -> None:
        self._job, self._flags, self._run_part, self._checkpoint = job, flags, run_part, checkpoint
        self._explained = 0

    def report(self, status: int, loss: Array, totals: Mapping[int, Array]) -> NonFinite | None:
        """The report; ``totals`` are gradients by node, as far as they are sums over examples."""
        job = self._job
        bad = r.BAD_VALUE | r.BAD_GRADIENT
        if not job.program.facts.batched:
            return self._explain(None) if status & (bad | r.BAD_SUM) else self._sum(loss, totals)
        tile, examples = job.lanes, job.examples
        flagged = np.flatnonzero(self._flags & bad).tolist()
        # What examples share may have a gradient that is not finite of all together, or of some alone.
        for number in flagged or range(job.blocks if status & bad else 0):
            end = min(examples, (number + 1) * tile)
            found = self._within(number * tile, end, known=bool(flagged))
            if found is not None:
                return found
        if status & bad:
            found = self._explain(0)
            if found is not None:
                return found
        return self._sum(loss, totals)

    def _within(self, begin: int, end: int, *, known: bool) -> NonFinite | None:
        """The report on the lowest example of a range, in which something is known to be wrong, or may be."""
        self._checkpoint()
        if self._explained >= MAX_EXPLAINED:
            return None
        if not known and not self._run_part(begin, end) & (r.BAD_VALUE | r.BAD_GRADIENT):
            return None
        if end - begin == 1:
            return self._explain(begin)
        middle = (begin + end) // 2
        return self._within(begin, middle, known=False) or self._within(middle, end, known=False)

    def _explain(self, example: int | None) -> NonFinite | None:
        job = self._job
        self._explained += 1
        question = job.bound.question
        return explain_non_finite(
            job.program.checked, self._arrays(example), job.query.dtype, question.wrt, question.outputs, example,
            self._checkpoint,
        )  # fmt: skip

    def _arrays(self, example: int | None) -> dict[str, Array]:
        """What one example brings; zeros if there is none."""
        arrays = dict(self._job.query.arrays)
        for source in self._job.program.facts.sources:
            if source.per_example:
                own = arrays[source.name]
                arrays[source.name] = own[example] if len(own) else np.zeros(source.shape, own.dtype)
        return arrays

    def _sum(self, loss: Array, totals: Mapping[int, Array]) -> NonFinite | None:
        checked = self._job.program.checked
        sums = {**totals, checked.graph.loss: loss}
        if self._job.per_example_gradients:
            return None
        for node in sorted(sums, reverse=True):
            found = bad_sum(checked, node, sums[node])
            if found is not None:
                return found
        return None
