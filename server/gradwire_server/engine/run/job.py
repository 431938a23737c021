"""A request, checked against a graph: what it will cost is known before anything runs."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import NamedTuple
from weakref import ref

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, unhurried
from gradwire_server.engine.graph import shapes
from gradwire_server.engine.graph.checking import Checked, Source
from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.engine.lowering.code import Code
from gradwire_server.engine.lowering.question import Question, facts_of
from gradwire_server.engine.run.layout import Layout, defers, layout_of
from gradwire_server.engine.run.program import Program
from gradwire_server.engine.run.query import Asked, Query, fit
from gradwire_server.engine.run.room import Room
from gradwire_server.engine.run.wiring import Wiring, wiring_of
from gradwire_server.errors import Reason, Refusal, refuse
from gradwire_server.limits import Limits


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Bound:
    """What requests of one kind have in common: code, how it is cut, and which arrays it has."""

    question: Question
    dtype: np.dtype[np.floating]
    code: Code
    layout: Layout
    wiring: Wiring
    seed: float
    """The gradient of the loss in itself."""
    divisor: float
    """What sums over examples are divided by."""
    rooms: list[Room] = field(default_factory=list)
    """Rooms of such requests that are idle."""

    def new_room(self) -> Room:
        """Storage for a request of this kind."""
        return Room(self.code, self.layout, self.wiring.slots, self.dtype, self.seed, self.divisor)


class Job(NamedTuple):
    """A query that fits its graph, ready to run."""

    program: Program
    query: Query
    wrt: tuple[Source, ...]
    bound: Bound

    @property
    def examples(self) -> int:
        """N, or 1 if the graph has no per-example input."""
        return self.bound.layout.examples

    @property
    def cost(self) -> float:
        """Rough estimate of the computing time, in seconds on one core."""
        return self.bound.layout.cost

    @property
    def memory(self) -> int:
        """Bytes that it takes at the peak, results included."""
        return self.bound.layout.memory

    @property
    def result_bytes(self) -> int:
        """Bytes of what it gives."""
        return self.bound.layout.results

    @property
    def lanes(self) -> int:
        """Examples of a tile; a function of graph, dtype and question alone."""
        return self.bound.layout.tile

    @property
    def blocks(self) -> int:
        """Tiles of examples."""
        return self.bound.layout.tiles

    @property
    def threads(self) -> int:
        """Threads that it is worth."""
        return self.bound.layout.threads

    @property
    def per_example_gradients(self) -> bool:
        """Whether every gradient has the leading axis N."""
        return self.bound.question.separate

    def __str__(self) -> str:
        """What it takes, in a line."""
        where = f"on up to {self.threads} threads" if self.threads > 1 else "on one thread"
        tiles = f"{self.blocks} tiles of up to {self.lanes} of {self.examples} examples"
        return f"{tiles}, {where}, {self.memory} bytes, about {self.cost:.1e} s on one core"


class Fit:
    """How the query of a job fits its program, as do all that differ in elements alone. It keeps neither alive."""

    __slots__ = ("_bound", "_program", "_wrt")

    def __init__(self, job: Job) -> None:
        self._program, self._bound, self._wrt = ref(job.program), ref(job.bound), job.wrt

    def job(self, program: Program, query: Query) -> Job | None:
        """The job of another such query; None if the program is another one, or does not know the kind any more."""
        bound = self._bound()
        if bound is None or self._program() is not program:
            return None
        return Job(program, query, self._wrt, bound)


def bind(program: Program, query: Query, limits: Limits, threads: int = 1, checkpoint: Checkpoint = unhurried) -> Job:
    """Check a query against a graph; the job takes up to so many threads.

    Raises:
        Refusal: with every finding (INVALID_TENSOR, INVALID_REQUEST, LIMIT_EXCEEDED); whatever ``checkpoint`` raises.
    """
    kind = query.dtype, query.reduction, query.wrt, query.outputs, threads, limits.max_memory_bytes
    known = program.known.get(kind)
    if known is not None:
        bound = known.bounds.get(known.expected.fits(query.arrays))
        if bound is not None:
            return Job(program, query, known.wrt, bound)
    asked = fit(program.facts, query, limits, checkpoint)
    key = asked.question, asked.examples, query.dtype, query.reduction, threads, limits.max_memory_bytes
    bound = program.bounds.get(key)
    if bound is None:
        code = program.code(asked.question, checkpoint)
        bound = _bound(program, code, asked.question, asked, query, threads, limits, checkpoint)
        if defers(code, bound.layout, query.dtype.itemsize):
            question = replace(asked.question, deferred=True)
            code = program.code(question, checkpoint)
            bound = _bound(program, code, question, asked, query, threads, limits, checkpoint)
        program.keep(key, bound)
    job = Job(program, query, asked.wrt, bound)
    if job.memory > limits.max_memory_bytes:
        raise _too_large(job, limits)
    program.know(kind, asked, query.dtype, bound)
    return job


def _bound(
    program: Program, code: Code, question: Question, asked: Asked, query: Query, threads: int, limits: Limits,
    checkpoint: Checkpoint,
) -> Bound:  # fmt: skip
    checked, wrt, examples = program.checked, asked.wrt, asked.examples
    separate = question.separate
    elements = sum(checked.size(s.node) * (examples if separate or s.per_example else 1) for s in wrt)
    elements += sum(checked.size(n) * (examples if checked.per_example[n] else 1) for n in question.outputs)
    elements += examples if separate else 1
    streamed = sum(shapes.size(source.shape) for source in program.facts.sources if source.per_example)
    itemsize = query.dtype.itemsize
    layout = layout_of(
        code, examples, itemsize, streamed, elements * itemsize, threads, limits.max_memory_bytes
    )  # fmt: skip
    wiring = wiring_of(checked, code, question, wrt, layout, query.reduction, checkpoint)
    return Bound(question, query.dtype, code, layout, wiring, *_scales(program, query.reduction, examples))


def _scales(program: Program, reduction: Reduction, examples: int) -> tuple[float, float]:
    """The gradient of the loss in itself, and what sums over examples are divided by."""
    batched = program.facts.batched
    summed = reduction is Reduction.SUM and batched and not program.lanes_loss
    return float(examples) if summed else 1.0, float(examples) if reduction is Reduction.MEAN and batched else 1.0


def _too_large(job: Job, limits: Limits) -> Refusal:
    advice = "ask for a mean or a sum, or send fewer examples" if job.per_example_gradients else "make it smaller"
    return too_large(job.program.checked, job.bound.question, job.memory, job.examples, advice, limits)


def too_large(
    checked: Checked, question: Question, memory: int, examples: int, advice: str, limits: Limits
) -> Refusal:  # fmt: skip
    """The refusal of a computation that would take so many bytes."""
    sizes = np.array([shapes.size(shape) for shape in checked.shape_table])[checked.shape_ids]
    node = int(np.where(facts_of(checked, question).needed, sizes, -1).argmax())
    return refuse(
        Reason.LIMIT_EXCEEDED,
        f"the computation would take about {memory} bytes for {examples} examples; this server takes "
        f"at most {limits.max_memory_bytes} (max_memory_bytes); its largest tensor is node "
        f'"{checked.graph.label(node)}" '
        f"of shape {shapes.text(checked.shape(node))}; {advice}",
        "",
        found=memory,
        limit=limits.max_memory_bytes,
        setting="max_memory_bytes",
        node=checked.graph.label(node),
    )


def part_of(job: Job, begin: int, end: int) -> Job:
    """The request about examples from one number to another alone, in one tile."""
    arrays = dict(job.query.arrays)
    for source in job.program.facts.sources:
        if source.per_example:
            arrays[source.name] = arrays[source.name][begin:end]
    query = job.query._replace(arrays=arrays)
    old, count = job.bound, end - begin
    layout = replace(old.layout, examples=count, tile=count, tiles=1, chunks=1, threads=1)
    reduction = job.query.reduction
    wiring = wiring_of(job.program.checked, old.code, old.question, job.wrt, layout, reduction)
    scales = _scales(job.program, reduction, count)
    bound = Bound(old.question, old.dtype, old.code, layout, wiring, *scales)
    return job._replace(query=query, bound=bound)
