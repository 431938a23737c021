"""Value and gradient over examples: blocks run on one thread or several, and what they give is added in their order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import partial
from math import isfinite

import numpy as np

from gradwire_server.engine import nonfinite
from gradwire_server.engine.block import Block, NotFiniteError, Partial, Results, look_closer
from gradwire_server.engine.diagnosis import bad_step, bad_sum
from gradwire_server.engine.executor import Adjoints, Checkpoint, backward, forward
from gradwire_server.engine.graph import Array, Reduction
from gradwire_server.engine.job import Job
from gradwire_server.engine.kernels import walk
from gradwire_server.engine.lowering import Run, Step, TapeRun
from gradwire_server.engine.memory import Arena, Stored
from gradwire_server.engine.nonfinite import NonFinite, Phase
from gradwire_server.engine.program import Source
from gradwire_server.engine.reach import forget
from gradwire_server.engine.shapes import accumulator
from gradwire_server.engine.threads import ONE, Ordered, Threads
from gradwire_server.engine.workspace import Needs, Workspace
from gradwire_server.errors import Reason, refuse


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
    """What a job gave."""

    loss: Array
    """Scalar, or [N] without a reduction."""
    gradients: dict[str, Array]
    """By source: [*shape], or [N, *shape] without a reduction and of per-example inputs."""
    outputs: dict[int, Array]
    """By node: [*shape], or [N, *shape] of nodes that depend on examples."""
    non_finite: NonFinite | None
    examples: int
    blocks: int


def run(job: Job, checkpoint: Checkpoint, threads: Threads = ONE) -> Evaluation:
    """Run a job; ``checkpoint`` is called between blocks and instructions, on any of the threads, and may raise.

    Raises:
        Refusal: INDEX_OUT_OF_RANGE; NON_FINITE if the query rejects it; whatever ``checkpoint`` raises.
    """
    with np.errstate(all="ignore"), threads.caller() if job.threads else nullcontext():
        plain = None
        try:
            evaluation = _Evaluator(job, checkpoint).evaluate(threads)
        except NotFiniteError as error:
            # Not at once, and without what led here, which holds on to all that was computed.
            plain = error.with_traceback(None).plain
        if plain is not None:
            evaluation = _Evaluator(plain, checkpoint).evaluate(threads)
    if job.query.reject_non_finite and evaluation.non_finite is not None:
        report = evaluation.non_finite
        raise refuse(
            Reason.NON_FINITE,
            report.message,
            f"graph.nodes[{report.node}]",
            node=report.name,
            phase=report.phase,
            example="" if report.example is None else report.example,
        )
    return evaluation


def _workspace(job: Job) -> Workspace:
    """That which the program has idle, if the job can have it, or a new one."""
    # Whether each example has gradients of its own the plan says already.
    plan, dtype, lanes = job.plan, job.query.dtype, job.lanes_at_once
    if job.program.idle:
        with suppress(IndexError):
            idle = job.program.idle.pop()
            if idle.needs.plan is plan and idle.needs.dtype == dtype and idle.needs.lanes == lanes:
                return idle
    return Workspace(
        Needs(
            plan=plan,
            shared=(plan.shared.values, plan.shared.adjoints),
            own=(plan.lanes.values, plan.lanes.adjoints),
            dtype=dtype,
            lanes=lanes,
            lanes_of_sums=lanes if job.per_example_gradients else 1,
        )
    )


class _Evaluator:
    """One run of one job."""

    def __init__(self, job: Job, checkpoint: Checkpoint) -> None:
        self.job = job
        self.checkpoint = checkpoint
        self.program, self.plan, self.dtype = job.program, job.plan, job.query.dtype
        self.loss = job.program.graph.loss
        self.blockwise_loss = job.program.per_example[self.loss]
        """Whether the loss differs among examples."""
        self.separate = job.per_example_gradients
        self.report: NonFinite | None = None
        self.given = dict(job.program.cast_constants(self.dtype))
        for source in job.program.sources:
            if not source.per_example:
                self.given[source.node] = job.query.arrays[source.name][..., np.newaxis]
        self.workspace = _workspace(job)
        self.shared, self.values = self.workspace.shared, self.workspace.values
        self.values.given = self.given
        self.loss_sum = 0.0
        self.total: Arena | None = None
        """Gradients of what examples share; from the first block on the sum of those of the blocks."""
        self.wide_sum: Array | None = None
        """That sum, where float32 would not do."""
        self.idle: list[Block] = []

    def evaluate(self, threads: Threads) -> Evaluation:
        job = self.job
        self._forward_shared()
        self._make_results()
        blocks = job.blocks
        if job.threads:
            Ordered(blocks, job.ahead, self._run_block, self._add).run(threads, job.threads)
        else:
            for number in range(blocks):
                self._add(self._run_block(number))
        if job.examples > 0 and not (self.separate and self.blockwise_loss):
            self._backward_shared()
        loss = self._reduced_loss()
        return Evaluation(
            loss=loss,
            gradients=self._leave(),
            outputs=self.results.outputs,
            non_finite=self.report,
            examples=job.examples,
            blocks=blocks,
        )

    # What examples share, forward.

    def _forward_shared(self) -> None:
        stage = self.plan.shared
        if stage.values.places:
            self._load(stage.resident)
            self._fold()
            forward(self.program, stage.schedule.forward, self.values, 0, self.checkpoint, self._forward_run)
        if not (self.shared.is_finite() and all(nonfinite.is_finite(self.values[node]) for node in self.plan.given)):
            look_closer(self.job)
            per_example = self.program.per_example
            nodes = [node for node, needed in enumerate(self.plan.needed) if needed and not per_example[node]]
            self._note(nonfinite.bad_value(self.program, nodes, self.values, 0))

    def _fold(self) -> None:
        """Give what depends on constants alone its values, which are kept if they are finite."""
        stage, folded = self.plan.shared, self.plan.folded
        own = self.shared.flat[: stage.schedule.folded]
        if self.dtype in folded:
            own[...] = folded[self.dtype]
            return
        self._load(stage.constant)
        forward(self.program, stage.schedule.constant, self.values, 0, self.checkpoint, self._forward_run)
        if nonfinite.is_finite(own):
            folded[self.dtype] = own.copy()

    def _load(self, nodes: Iterable[int]) -> None:
        """Copy sources to their places among the values that examples share."""
        for node in nodes:
            place = self.shared.get(node)
            if place is not None:
                place[...] = self.given[node]

    def _forward_run(self, run: Run | TapeRun) -> None:
        values = self.shared.storage
        if isinstance(run, TapeRun):
            run.forward(self.values, values, 1)
            return
        walk.forward(run.rows, run.exponents[self.dtype], run.lists, values, values, 1)

    def _make_results(self) -> None:
        """Room for what has the axis of examples, and the outputs that have not."""
        job, count = self.job, self.job.examples
        self.results = Results(np.zeros(count if self.separate else 0, self.dtype), {}, {})
        for source in job.wrt:
            if self.separate or source.per_example:
                self.results.gradients[source.name] = np.zeros((count, *source.shape), self.dtype)
        for node in job.query.outputs:
            if self.program.per_example[node]:
                dtype = np.dtype(np.int64) if self.program.is_integer(node) else self.dtype
                self.results.outputs[node] = np.empty((count, *self.program.shapes[node]), dtype)
            else:
                self.results.outputs[node] = self.values[node][..., 0].copy()

    # Blocks of examples.

    def _run_block(self, number: int) -> Partial:
        job = self.job
        try:
            block = self.idle.pop()
        except IndexError:
            block = Block(job, self.workspace.room(), self.shared, self.given, self.results, self.checkpoint)
        start = number * job.lanes
        sums = self.workspace.sums()
        partial = block.run(start, min(job.lanes, job.examples - start), sums, self.report)
        self.idle.append(block)
        return partial

    def _add(self, partial: Partial) -> None:
        """Add what a block gave to what those before it gave."""
        self._note(partial.report)
        self.loss_sum += partial.loss
        sums = partial.sums
        if partial.differentiated and not self.separate:
            if self.total is None:
                self.total = sums
                wide = accumulator(self.dtype, self.job.blocks)
                if wide != self.dtype:
                    self.wide_sum = sums.flat.astype(wide)
                return
            total = self.total.flat if self.wide_sum is None else self.wide_sum
            np.add(total, sums.flat, out=total)
        self.workspace.idle_sums.append(sums)

    # What examples share, backward.

    def _backward_shared(self) -> None:
        seeded = self.total is None
        total = self.total = self._summed()
        adjoints = self.workspace.adjoints(total)
        steps, scheduled = self.plan.shared.backward, self.plan.shared.schedule.backward
        begun = total.flat.copy() if steps and not seeded else None

        def begin_again() -> None:
            if begun is None:
                self._seed(total)
            else:
                total.flat[...] = begun

        def pass_back(steps: Sequence[Step]) -> bool:
            """Compute the gradients; whether they are finite."""
            kernel = partial(self._backward_run, adjoints, total)
            finite = backward(steps, self.values, adjoints, self.checkpoint, kernel=kernel)
            forget(self.plan.lost, adjoints)
            return finite and total.is_finite()

        # What a block gives alone it has looked at.
        if (self.job.blocks > 1 or self.report is not None) and not total.is_finite():
            look_closer(self.job)
            self._note(bad_sum(self.program, self.plan, adjoints))
            pass_back(scheduled)
        elif steps and not pass_back(scheduled):
            # As in a block.
            begin_again()
            if not pass_back(steps):
                self._diagnose_shared(total.flat, begin_again, adjoints)

    def _leave(self) -> dict[str, Array]:
        """The gradients, of which none is in the workspace if that is kept for the next evaluation."""
        self.workspace.idle_rooms += [block.room for block in self.idle]
        if self.total is not None:
            self.workspace.idle_sums.append(self.total)
        kept = self.workspace.nbytes <= self.program.idle_bytes
        gradients = {source.name: self._gradient(source, kept=kept) for source in self.job.wrt}
        if kept:
            self.workspace.forget(self.plan.streamed, self.plan.direct)
            self.program.idle[:] = (self.workspace,)
        return gradients

    def _gradient(self, source: Source, *, kept: bool) -> Array:
        adjoint = None if source.per_example or self.total is None else self.total.get(source.node)
        if adjoint is None:
            found = self.results.gradients.get(source.name)
            return np.zeros(source.shape, self.dtype) if found is None else found
        gradient: Array = adjoint[..., 0]
        if self.separate:
            return np.broadcast_to(gradient, (self.job.examples, *source.shape)).copy()
        return gradient.copy() if kept else gradient

    def _summed(self) -> Arena:
        """The gradients that the shared backward steps begin with."""
        reduction, count, total = self.job.query.reduction, self.job.examples, self.total
        if total is None:
            total = self.workspace.sums()
            total.open(1)
            self._seed(total)
            return total
        total_sum = total.flat if self.wide_sum is None else self.wide_sum
        divisor = count if reduction is Reduction.MEAN else 1
        if divisor > 1 or total_sum is not total.flat:
            np.divide(total_sum, divisor, out=total.flat, casting="same_kind")
        return total

    def _seed(self, total: Arena) -> None:
        """Have there what the backward steps begin with if no block has given any."""
        total.flat.fill(0)
        seed = None if self.blockwise_loss else total.get(self.loss)
        if seed is not None:
            seed.fill(self.job.examples if self.job.query.reduction is Reduction.SUM else 1)

    def _backward_run(self, adjoints: Stored[Array | None], total: Arena, run: Run | TapeRun) -> bool:
        values = self.shared.storage
        if isinstance(run, TapeRun):
            return run.backward(adjoints, values, 1)
        own = total.storage
        walk.backward(run.rows, run.exponents[self.dtype], run.lists, values, values, own, own, 1, False)
        return True

    def _diagnose_shared(self, flat: Array, begin_again: Callable[[], None], adjoints: Adjoints) -> None:
        look_closer(self.job)
        if self.report is not None and self.report.phase is Phase.VALUE:
            return
        kept = flat.copy()
        begin_again()
        self._note(
            bad_step(self.program, self.plan, self.plan.shared.backward, self.values, adjoints, 0, self.checkpoint)
        )
        flat[...] = kept

    def _reduced_loss(self) -> Array:
        reduction, count = self.job.query.reduction, self.job.examples
        if self.separate:
            if not self.blockwise_loss:
                self.results.losses[...] = self.values[self.loss][..., 0]
            return self.results.losses
        if self.blockwise_loss:
            total = self.loss_sum / count if reduction is Reduction.MEAN else self.loss_sum
            loss = np.asarray(total).astype(self.dtype)
        else:
            loss = self.values[self.loss][..., 0].copy()
            if reduction is Reduction.SUM and self.program.batched:
                loss = np.multiply(loss, count, dtype=self.dtype) if count else np.zeros_like(loss)
        if not isfinite(loss):
            # Which sign a NaN has that Python adds up depends on how often it has done so.
            loss = np.where(np.isnan(loss), np.nan, loss).astype(self.dtype)
            self._note(nonfinite.report(self.program, Phase.REDUCTION, self.loss, loss[..., np.newaxis], ((), 0)))
        return np.asarray(loss)

    def _note(self, report: NonFinite | None) -> None:
        if report is not None:
            look_closer(self.job)
        self.report = nonfinite.first(self.report, report)
