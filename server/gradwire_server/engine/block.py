"""A block of examples: its storage, and what runs in it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from gradwire_server.engine import nonfinite, shapes
from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.diagnosis import bad_step_of_block, bad_sum
from gradwire_server.engine.executor import backward, forward
from gradwire_server.engine.graph import Array, Reduction
from gradwire_server.engine.job import Job
from gradwire_server.engine.kernels import walk
from gradwire_server.engine.lowering import Run, Step, TapeRun
from gradwire_server.engine.memory import Arena
from gradwire_server.engine.nonfinite import NonFinite, Phase
from gradwire_server.engine.reach import clear
from gradwire_server.engine.workspace import Room


@dataclass(frozen=True, slots=True)
class Results:
    """What a job gives; blocks write their examples' part of what has the axis of examples."""

    losses: Array
    """[N] without a reduction, else empty."""
    gradients: dict[str, Array]
    """By source: [*shape], or [N, *shape] without a reduction and of per-example inputs."""
    outputs: dict[int, Array]
    """By node: [*shape], or [N, *shape] of nodes that depend on examples."""


@dataclass(frozen=True, slots=True)
class Partial:
    """What a block adds to the sums over all examples."""

    loss: float
    sums: Arena
    """Gradients of what examples share."""
    differentiated: bool
    """Whether there are any."""
    report: NonFinite | None


class NotFiniteError(Exception):
    """What a job gives is not finite, and only its plain form can say why."""

    def __init__(self, plain: Callable[[Checkpoint], Job]) -> None:
        super().__init__()
        self.plain = plain


def look_closer(job: Job) -> None:
    """Go on only if this job can say what is not finite.

    Raises:
        NotFiniteError: with what gives the job that can.
    """
    if job.plain is not None:
        raise NotFiniteError(job.plain)


class Block:
    """The examples of one block after another, on one thread at a time.

    Args:
        job: What to compute.
        room: Where.
        shared: Values that examples share, as far as they were computed.
        given: Those that were given.
        results: Where to write.
        checkpoint: May end the work by raising.
    """

    def __init__(
        self,
        job: Job,
        room: Room,
        shared: Arena,
        given: Mapping[int, Array],
        results: Results,
        checkpoint: Checkpoint,
    ) -> None:
        self._job = job
        self._checkpoint = checkpoint
        self._results = results
        self._program, self._plan, self._dtype = job.runs, job.plan, job.query.dtype
        self._loss = job.runs.graph.loss
        self._shared = shared
        self.room = room
        self._values = room.values
        self._values.given = given
        self._adjoints = room.adjoints
        self._inputs = [
            (source.node, shapes.lanes_last(job.query.arrays[source.name]), source.node in self._plan.streamed)
            for source in checked(self._program.sources, checkpoint)
            if source.per_example and self._plan.needed[source.node]
        ]

    def run(self, start: int, lanes: int, sums: Arena, known: NonFinite | None) -> Partial:
        """Compute the examples from ``start`` on; ``known`` is what is reported of those before.

        Raises:
            Refusal: INDEX_OUT_OF_RANGE; whatever the checkpoint raises.
        """
        self._checkpoint()
        self.room.open(lanes, sums)
        self._adjoints = self.room.adjoints
        self._load(start, lanes)
        forward(
            self._program, self._plan.lanes.schedule.forward, self._values, start, self._checkpoint, self._forward_run
        )
        report = self._bad_value(start)
        stop = start + lanes
        for node, output in checked(self._results.outputs.items(), self._checkpoint):
            if self._program.per_example[node]:
                output[start:stop] = shapes.lanes_first(self._values[node])
        if not self._program.per_example[self._loss]:
            return Partial(0.0, sums, False, report)
        losses = self._values[self._loss]
        if self._job.per_example_gradients:
            self._results.losses[start:stop] = losses
        loss = float(np.add.reduce(losses, dtype=np.float64))
        differentiated = self._plan.active[self._loss]
        if differentiated:
            report = self._differentiate(start, sums, known if report is None else report)
            self._write_gradients(start, stop)
        return Partial(loss, sums, differentiated, report)

    def _load(self, start: int, lanes: int) -> None:
        """Give the block's inputs their values."""
        for node, array, streamed in checked(self._inputs, self._checkpoint):
            part = array[..., start : start + lanes]
            if streamed:
                self._values[node] = part
            else:
                self._values[node][...] = part

    # What the kernel does.

    def _forward_run(self, run: Run | TapeRun) -> None:
        own, lanes = self.room.own.storage, self.room.lanes
        if isinstance(run, TapeRun):
            run.forward(self._values, own, lanes)
            return
        walk.forward(run.rows, run.exponents[self._dtype], run.lists, own, self._shared.storage, lanes)

    def _backward_run(self, sums: Arena, run: Run | TapeRun) -> bool:
        own, lanes = self.room.own.storage, self.room.lanes
        if isinstance(run, TapeRun):
            return run.backward(self._adjoints, own, lanes)
        walk.backward(
            run.rows,
            run.exponents[self._dtype],
            run.lists,
            own,
            self._shared.storage,
            self.room.own_adjoints.storage,
            sums.storage,
            lanes,
            self._job.per_example_gradients,
        )
        return True

    # Gradients.

    def _differentiate(self, start: int, sums: Arena, known: NonFinite | None) -> NonFinite | None:
        """Compute the gradients, and give the report on the block, which is ``known`` if there is nothing new."""
        plan = self._plan
        for node in plan.direct:
            gradient = self._results.gradients[self._program.label(node)]
            self._adjoints[node] = shapes.lanes_last(gradient[start : start + self.room.lanes])
        # The kernel multiplies and adds in another order, and may leave the range of floats where NumPy does not.
        if self._pass_back(sums, plan.lanes.schedule.backward) or self._pass_back(sums, plan.lanes.backward):
            return known
        look_closer(self._job)
        if known is not None and known.phase is Phase.VALUE:
            return known
        step = bad_step_of_block(self._program, plan, self._values, start, known, self._checkpoint)
        return nonfinite.first(nonfinite.first(known, step), bad_sum(self._program, plan, self._adjoints))

    def _pass_back(self, sums: Arena, steps: Sequence[Step]) -> bool:
        """Compute the gradients anew; whether they are finite."""
        self.room.own_adjoints.zero()
        sums.zero()
        seed = self._adjoints[self._loss]
        if seed is not None:
            seed.fill(1)
        kernel = partial(self._backward_run, sums)
        finite = backward(steps, self._values, self._adjoints, self._checkpoint, kernel=kernel)
        if self._job.per_example_gradients:
            # Their values have one lane, their gradients as many as there are examples: that is NumPy's.
            finite &= backward(self._plan.shared.backward, self._values, self._adjoints, self._checkpoint)
        clear(self._plan.lost, self._adjoints)
        return finite and self.room.own_adjoints.is_finite() and sums.is_finite()

    def _write_gradients(self, start: int, stop: int) -> None:
        """Those that have the axis of examples."""
        job = self._job
        divisor = job.examples if job.query.reduction is Reduction.MEAN else 1
        for source in checked(job.wrt, self._checkpoint):
            if (job.per_example_gradients or source.per_example) and source.node not in self._plan.direct:
                adjoint = self._adjoints[source.node]
                if adjoint is not None:
                    rows = shapes.lanes_first(adjoint)
                    self._results.gradients[source.name][start:stop] = rows if divisor == 1 else rows / divisor

    def _bad_value(self, start: int) -> NonFinite | None:
        """Look at all values; only if one is not finite, find out which node that was."""
        if self.room.own.is_finite() and all(
            nonfinite.is_finite(self._values[node]) for node in checked(self._plan.untold, self._checkpoint)
        ):
            return None
        look_closer(self._job)
        per_example = self._program.per_example
        nodes = [node for node, needed in enumerate(self._plan.needed) if needed and per_example[node]]
        return nonfinite.bad_value(self._program, nodes, self._values, start)
