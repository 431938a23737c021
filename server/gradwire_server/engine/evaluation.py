"""Value and gradient over examples: blocks run on one thread or several, and what they give is added in their order."""

from __future__ import annotations

from contextlib import nullcontext, suppress
from dataclasses import dataclass
from math import isfinite

import numpy as np

from gradwire_server.engine import nonfinite
from gradwire_server.engine.block import Block, NotFiniteError, Partial, Results, look_closer
from gradwire_server.engine.checkpoints import Checkpoint, checked
from gradwire_server.engine.graph import Array, Reduction
from gradwire_server.engine.job import Job
from gradwire_server.engine.memory import Arena
from gradwire_server.engine.nonfinite import NonFinite, Phase
from gradwire_server.engine.program import Source
from gradwire_server.engine.shared import Shared
from gradwire_server.engine.threads import ONE, Ordered, Threads
from gradwire_server.engine.totals import Totals
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
            evaluation = _Evaluator(plain(checkpoint), checkpoint).evaluate(threads)
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
    if job.runs.idle:
        with suppress(IndexError):
            idle = job.runs.idle.pop()
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
        self.program, self.plan, self.dtype = job.runs, job.plan, job.query.dtype
        self.loss = job.runs.graph.loss
        self.blockwise_loss = job.runs.per_example[self.loss]
        """Whether the loss differs among examples."""
        self.separate = job.per_example_gradients
        self.report: NonFinite | None = None
        self.given = dict(job.runs.cast_constants(self.dtype))
        for source in checked(job.runs.sources, checkpoint):
            if not source.per_example:
                self.given[source.node] = job.query.arrays[source.name][..., np.newaxis]
        self.workspace = _workspace(job)
        self.shared = Shared(job, self.workspace, self.given, checkpoint)
        self.totals = Totals(job, self.workspace)
        self.idle: list[Block] = []

    def evaluate(self, threads: Threads) -> Evaluation:
        job = self.job
        self._note(self.shared.forward())
        self.results = self._make_results()
        if job.threads:
            Ordered(job.blocks, job.ahead, self._run_block, self._add).run(threads, job.threads)
        else:
            for number in range(job.blocks):
                self._add(self._run_block(number))
        total = self.totals.gradients()
        if job.examples > 0 and not (self.separate and self.blockwise_loss):
            total, report = self.shared.backward(total, self.report)
            self._note(report)
        return Evaluation(
            loss=self._reduced_loss(),
            gradients=self._leave(total),
            outputs={node: self.results.outputs[own] for node, own in zip(job.query.outputs, job.outputs, strict=True)},
            non_finite=self.report,
            examples=job.examples,
            blocks=job.blocks,
        )

    def _note(self, report: NonFinite | None) -> None:
        if report is not None:
            look_closer(self.job)
        self.report = nonfinite.first(self.report, report)

    def _make_results(self) -> Results:
        """Room for what has the axis of examples, and the outputs that have not."""
        job, count, program = self.job, self.job.examples, self.program
        results = Results(np.zeros(count if self.separate else 0, self.dtype), {}, {})
        for source in checked(job.wrt, self.checkpoint):
            if self.separate or source.per_example:
                results.gradients[source.name] = np.zeros((count, *source.shape), self.dtype)
        for node in checked(job.outputs, self.checkpoint):
            if program.per_example[node]:
                dtype = np.dtype(np.int64) if program.is_integer(node) else self.dtype
                results.outputs[node] = np.empty((count, *program.shapes[node]), dtype)
            else:
                results.outputs[node] = self.shared.values[node][..., 0].copy()
        return results

    def _run_block(self, number: int) -> Partial:
        job = self.job
        try:
            block = self.idle.pop()
        except IndexError:
            room = self.workspace.room()
            block = Block(job, room, self.workspace.shared, self.given, self.results, self.checkpoint)
        start = number * job.lanes
        sums = self.workspace.sums()
        partial = block.run(start, min(job.lanes, job.examples - start), sums, self.report)
        self.idle.append(block)
        return partial

    def _add(self, partial: Partial) -> None:
        self._note(partial.report)
        self.totals.add(partial)

    def _leave(self, total: Arena | None) -> dict[str, Array]:
        """The gradients, of which none is in the workspace if that is kept for the next evaluation."""
        self.workspace.idle_rooms += [block.room for block in self.idle]
        if total is not None:
            self.workspace.idle_sums.append(total)
        kept = self.workspace.nbytes <= self.program.idle_bytes
        gradients = {
            source.name: self._gradient(source, total, kept=kept) for source in checked(self.job.wrt, self.checkpoint)
        }
        if kept:
            self.workspace.release(self.plan.streamed, self.plan.direct)
            self.program.idle[:] = (self.workspace,)
        return gradients

    def _gradient(self, source: Source, total: Arena | None, *, kept: bool) -> Array:
        adjoint = None if source.per_example or total is None else total.get(source.node)
        if adjoint is None:
            found = self.results.gradients.get(source.name)
            return np.zeros(source.shape, self.dtype) if found is None else found
        gradient: Array = adjoint[..., 0]
        if self.separate:
            return np.broadcast_to(gradient, (self.job.examples, *source.shape)).copy()
        return gradient.copy() if kept else gradient

    def _reduced_loss(self) -> Array:
        reduction, count = self.job.query.reduction, self.job.examples
        if self.separate:
            if not self.blockwise_loss:
                self.results.losses[...] = self.shared.values[self.loss][..., 0]
            return self.results.losses
        if self.blockwise_loss:
            total = self.totals.loss / count if reduction is Reduction.MEAN else self.totals.loss
            loss = np.asarray(total).astype(self.dtype)
        else:
            loss = self.shared.values[self.loss][..., 0].copy()
            if reduction is Reduction.SUM and self.program.batched:
                loss = np.multiply(loss, count, dtype=self.dtype) if count else np.zeros_like(loss)
        if not isfinite(loss):
            # Which sign a NaN has that Python adds up depends on how often it has done so.
            loss = np.where(np.isnan(loss), np.nan, loss).astype(self.dtype)
            self._note(nonfinite.report(self.program, Phase.REDUCTION, self.loss, loss[..., np.newaxis], ((), 0)))
        return np.asarray(loss)
