"""A request, checked against a program: what it will cost is known before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from gradwire_server.engine import shapes
from gradwire_server.engine.checkpoints import Checkpoint, unhurried
from gradwire_server.engine.estimates import measured
from gradwire_server.engine.graph import Reduction
from gradwire_server.engine.plan import Plan
from gradwire_server.engine.program import Program, Source
from gradwire_server.engine.query import Asked, Query, fit
from gradwire_server.errors import Reason, Refusal, refuse
from gradwire_server.limits import Limits

MEASURES = 8
"""Numbers of examples for which a plan remembers what a job takes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """A query that fits its program, ready to run."""

    program: Program
    """The graph as it was sent."""
    query: Query
    runs: Program
    """What runs for it: the program itself, or one in its place."""
    plan: Plan
    """Of what runs; so are sources and outputs."""
    wrt: tuple[Source, ...]
    outputs: tuple[int, ...]
    """The nodes whose values were asked for, in that order."""
    examples: int
    """N, or 1 if the graph has no per-example input."""
    lanes: int
    """Examples of a block; a function of graph, dtype and question alone, so that sums never change their order."""
    blocks: int
    threads: int
    """That it is worth, and that its memory is counted for; 0 if it is so small that it runs as if there were none."""
    ahead: int
    """Blocks whose gradients may wait for those of blocks before them."""
    cost: float
    """Rough estimate of the computing time, in seconds on one core."""
    memory: int
    """Estimate of the memory at the peak, results included, in bytes."""
    plain: Callable[[Checkpoint], Job] | None = None
    """Gives what is to be run if what this one gives is not finite; None if this one says all about it. Raises what the
    checkpoint raises."""

    def __str__(self) -> str:
        """What it takes, in a line."""
        where = f"on up to {self.threads} threads" if self.threads > 1 else "on one thread"
        blocks = f"{self.blocks} blocks of up to {self.lanes} of {self.examples} examples"
        return f"{blocks}, {where}, at most {self.memory} bytes, about {self.cost:.1e} s on one core"

    @property
    def lanes_at_once(self) -> int:
        """Examples of the largest block that there is."""
        return min(self.lanes, max(1, self.examples))

    @property
    def per_example_gradients(self) -> bool:
        """Whether every gradient has the leading axis N."""
        return self.program.batched and self.query.reduction is Reduction.NONE


def bind(program: Program, query: Query, limits: Limits, threads: int = 1, checkpoint: Checkpoint = unhurried) -> Job:
    """Check a query against a program; the job takes up to so many threads.

    Raises:
        Refusal: with every finding (INVALID_TENSOR, INVALID_REQUEST, LIMIT_EXCEEDED); whatever ``checkpoint`` raises,
            which is called every few hundred tensors, and nodes while a plan is made.
    """
    return within(_Planning(query, fit(program, query, limits, checkpoint), limits, threads).job(checkpoint), limits)


def within(job: Job, limits: Limits) -> Job:
    """The job, if there may be as much memory as it takes.

    Raises:
        Refusal: LIMIT_EXCEEDED.
    """
    if job.memory > limits.max_memory_bytes:
        raise _too_large(job, limits)
    return job


@dataclass(frozen=True, slots=True)
class _Planning:
    """What a job is made of."""

    query: Query
    asked: Asked
    limits: Limits
    threads: int

    def job(self, checkpoint: Checkpoint) -> Job:
        """The job that gives what is asked soonest."""
        packed = self.asked.packed()
        if packed is not None:
            job = self._job(packed, self.limits, checkpoint)

            def as_sent(checkpoint: Checkpoint) -> Job:
                # In the same blocks, and in the memory that is counted for it.
                within = replace(self.limits, max_memory_bytes=job.memory)
                return self._job(self.asked, within, checkpoint, plain=True, lanes=job.lanes)

            return replace(job, plain=as_sent)
        job = self._job(self.asked, self.limits, checkpoint)
        if not job.plan.merged:
            return job
        plain = self._job(self.asked, self.limits, checkpoint, plain=True)
        return replace(job, memory=max(job.memory, plain.memory), plain=lambda _: plain)

    def _job(
        self, asked: Asked, limits: Limits, checkpoint: Checkpoint, *, plain: bool = False, lanes: int | None = None
    ) -> Job:
        program, runs = self.asked.program, asked.program
        wrt = tuple([source.node for source in asked.wrt])
        plan = runs.plan(wrt, asked.outputs, separate=asked.separate, plain=plain, checkpoint=checkpoint)
        case = asked.examples, asked.dtype, self.threads, limits.max_memory_bytes, lanes
        measure = plan.measures.get(case)
        if measure is None:
            instead = None if runs is program else program.at_most
            measure = measured(asked, plan, limits, self.threads, lanes, instead)
            if len(plan.measures) >= MEASURES:
                plan.measures.clear()
            plan.measures[case] = measure
        return Job(
            program=program,
            query=self.query,
            runs=runs,
            plan=plan,
            wrt=asked.wrt,
            outputs=asked.outputs,
            examples=asked.examples,
            **measure,
        )


def _too_large(job: Job, limits: Limits) -> Refusal:
    program = job.runs
    needed = [n for n, used in enumerate(job.plan.needed) if used and (not program.origins or program.origins[n] >= 0)]
    node = max(needed, key=lambda n: shapes.size(program.shapes[n]))
    advice = "ask for a mean or a sum, or send fewer examples" if job.per_example_gradients else "make it smaller"
    return refuse(
        Reason.LIMIT_EXCEEDED,
        f"the computation would take about {job.memory} bytes for {job.examples} examples; this server takes "
        f'at most {limits.max_memory_bytes} (max_memory_bytes); its largest tensor is node "{program.label(node)}" '
        f"of shape {shapes.text(program.shapes[node])}; {advice}",
        "",
        found=job.memory,
        limit=limits.max_memory_bytes,
        setting="max_memory_bytes",
        node=program.label(node),
    )
