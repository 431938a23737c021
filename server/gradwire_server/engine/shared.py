"""What examples share: its values, computed once before all blocks, and its gradients, once after them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from gradwire_server.engine import nonfinite
from gradwire_server.engine.block import look_closer
from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.diagnosis import bad_step, bad_sum
from gradwire_server.engine.executor import Adjoints, backward, forward
from gradwire_server.engine.graph import Array, Reduction
from gradwire_server.engine.job import Job
from gradwire_server.engine.kernels import walk
from gradwire_server.engine.lowering import Run, Step, TapeRun
from gradwire_server.engine.memory import Arena
from gradwire_server.engine.nonfinite import NonFinite, Phase
from gradwire_server.engine.reach import clear
from gradwire_server.engine.workspace import Workspace


class Shared:
    """The stage of a job's plan that runs once for all examples.

    Args:
        job: What to compute.
        workspace: Where.
        given: Values of nodes that are not computed.
        checkpoint: May end the work by raising.
    """

    def __init__(self, job: Job, workspace: Workspace, given: Mapping[int, Array], checkpoint: Checkpoint) -> None:
        self._job = job
        self._workspace = workspace
        self._given = given
        self._checkpoint = checkpoint
        self._program, self._plan, self._dtype = job.runs, job.plan, job.query.dtype
        self.values = workspace.values
        """Of all nodes that examples share."""
        self.values.given = given

    def forward(self) -> NonFinite | None:
        """Compute the values, and look at them.

        Raises:
            Refusal: INDEX_OUT_OF_RANGE; whatever the checkpoint raises.
        """
        stage = self._plan.shared
        if stage.values.places:
            self._load(stage.resident)
            self._fold()
            forward(self._program, stage.schedule.forward, self.values, 0, self._checkpoint, self._forward_run)
        finite = self._workspace.shared.is_finite()
        if finite and all(
            nonfinite.is_finite(self.values[node]) for node in checked(self._plan.given, self._checkpoint)
        ):
            return None
        look_closer(self._job)
        per_example = self._program.per_example
        nodes = [node for node, needed in enumerate(self._plan.needed) if needed and not per_example[node]]
        return nonfinite.bad_value(self._program, nodes, self.values, 0)

    def _fold(self) -> None:
        """Give what depends on constants alone its values, which are kept if they are finite."""
        stage, folded = self._plan.shared, self._plan.folded
        own = self._workspace.shared.flat[: stage.schedule.folded]
        if self._dtype in folded:
            own[...] = folded[self._dtype]
            return
        self._load(stage.constant)
        forward(self._program, stage.schedule.constant, self.values, 0, self._checkpoint, self._forward_run)
        if nonfinite.is_finite(own):
            folded[self._dtype] = own.copy()

    def _load(self, nodes: Iterable[int]) -> None:
        """Copy sources to their places among the values."""
        for node in checked(nodes, self._checkpoint):
            place = self._workspace.shared.get(node)
            if place is not None:
                place[...] = self._given[node]

    def _forward_run(self, run: Run | TapeRun) -> None:
        values = self._workspace.shared.storage
        if isinstance(run, TapeRun):
            run.forward(self.values, values, 1)
            return
        walk.forward(run.rows, run.exponents[self._dtype], run.lists, values, values, 1)

    def backward(self, summed: Arena | None, known: NonFinite | None) -> tuple[Arena, NonFinite | None]:
        """Compute the gradients, and give them and what is to be reported of them.

        Args:
            summed: What the blocks gave, reduced; None if they gave no gradients.
            known: What is reported of values and blocks.

        Raises:
            Refusal: whatever the checkpoint raises.
        """
        steps, scheduled = self._plan.shared.backward, self._plan.shared.schedule.backward
        total, begun = summed, None
        if total is None:
            total = self._workspace.sums()
            total.open(1)
            self._begin(total, begun)
        elif steps:
            begun = total.flat.copy()
        adjoints = self._workspace.adjoints(total)
        # What a block gives alone it has looked at.
        if (self._job.blocks > 1 or known is not None) and not total.is_finite():
            look_closer(self._job)
            report = bad_sum(self._program, self._plan, adjoints)
            self._pass_back(scheduled, adjoints, total)
            return total, report
        if not steps or self._pass_back(scheduled, adjoints, total):
            return total, None
        # As in a block.
        self._begin(total, begun)
        if self._pass_back(steps, adjoints, total):
            return total, None
        look_closer(self._job)
        if known is not None and known.phase is Phase.VALUE:
            return total, None
        kept = total.flat.copy()
        self._begin(total, begun)
        report = bad_step(self._program, self._plan, steps, self.values, adjoints, 0, self._checkpoint)
        total.flat[...] = kept
        return total, report

    def _begin(self, total: Arena, begun: Array | None) -> None:
        """Have there what the backward steps begin with: what blocks gave, or else the gradient of the loss itself."""
        if begun is not None:
            total.flat[...] = begun
            return
        total.flat.fill(0)
        loss = self._program.graph.loss
        seed = None if self._program.per_example[loss] else total.get(loss)
        if seed is not None:
            seed.fill(self._job.examples if self._job.query.reduction is Reduction.SUM else 1)

    def _pass_back(self, steps: Sequence[Step], adjoints: Adjoints, total: Arena) -> bool:
        """Go through the backward steps; whether the gradients are finite."""
        values, own = self._workspace.shared.storage, total.storage

        def kernel(run: Run | TapeRun) -> bool:
            if isinstance(run, TapeRun):
                return run.backward(adjoints, values, 1)
            walk.backward(run.rows, run.exponents[self._dtype], run.lists, values, values, own, own, 1, False)
            return True

        finite = backward(steps, self.values, adjoints, self._checkpoint, kernel=kernel)
        clear(self._plan.lost, adjoints)
        return finite and total.is_finite()
