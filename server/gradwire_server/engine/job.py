"""A request, checked against a program: what it will cost is known before anything runs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from difflib import get_close_matches
from itertools import islice
from typing import NamedTuple

import numpy as np

from gradwire_server.engine import shapes
from gradwire_server.engine.diagnosis import gradients_of_lane
from gradwire_server.engine.diagnosis import lanes_at_once as lanes_diagnosed
from gradwire_server.engine.graph import Array, Reduction
from gradwire_server.engine.kernels.walk import scratch as kernel_scratch
from gradwire_server.engine.measure import Measure
from gradwire_server.engine.memory import VIEW_BYTES
from gradwire_server.engine.ops.op import lanes_at_once
from gradwire_server.engine.plan import Plan
from gradwire_server.engine.program import Program, Source
from gradwire_server.engine.shapes import accumulator
from gradwire_server.engine.takes import Takes
from gradwire_server.errors import Findings, Reason, Refusal, refuse, shown
from gradwire_server.limits import MAX_RANK, Limits

BLOCK_BYTES = 4 << 20
"""Bytes that the inputs, values and gradients of a block of examples may take, so that they stay in the cache. Measured
are two or four MB; half a MB, which would stay in the second level, takes longer, for a block has its price."""

MAX_BLOCK_BYTES = 64 << 20
"""Bytes that they may take where tensors are so small that the calls of their operations take all the time."""

WORTHWHILE = 512
"""Elements on which an operation takes about as long as its call."""

MAX_LANES = 4096
"""Examples of a block, at most."""

BLOCK_WORK, PRODUCT_LANES = 1 << 22, 128
"""Elementary steps of a block, so that threads find blocks to share; but so many examples let a matrix product run at
its full speed."""

INTEGER = np.dtype(np.int64)
"""Of row indices."""

LISTED = 8
"""Names that a message lists at most."""

HINTS, HINTED, SHOWN = 3, 100, 64
"""Surplus tensors that are told which name is like theirs, names that this is looked for among, and characters of
each that are compared: to compare names is slow."""

SECONDS_PER_CALL = 12e-6
SECONDS_PER_STEP = 1e-9
"""Of a call of NumPy or of the kernel, and of its elementary steps, forward and backward together."""

MEASURES = 8
"""Numbers of examples for which a plan remembers what a job takes."""

REPORT_BYTES = 64 << 10
"""Of objects of Python, and of a report on what is not finite."""

SECONDS_PER_THREAD = 5e-4
"""Of work that another thread is worth."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """What a request asks of a program."""

    arrays: Mapping[str, Array]
    """By name: [*shape], or [N, *shape] of per-example inputs; C-contiguous, of ``dtype`` or int64."""
    dtype: np.dtype[np.floating]
    """float32 or float64, of the whole computation."""
    reduction: Reduction = Reduction.MEAN
    wrt: tuple[str, ...] | None = None
    """Sources to differentiate in; None means every parameter."""
    outputs: tuple[int, ...] = ()
    """Nodes whose values to return too."""
    reject_non_finite: bool = False


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
    plain: Callable[[], Job] | None = None
    """Gives what is to be run if what this one gives is not finite; None if this one says all about it."""

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


def bind(program: Program, query: Query, limits: Limits, threads: int = 1) -> Job:
    """Check a query against a program; the job takes up to so many threads.

    Raises:
        Refusal: with every finding (INVALID_TENSOR, INVALID_REQUEST, LIMIT_EXCEEDED).
    """
    findings = Findings()
    _check_tensors(program, query, findings)
    _check_outputs(program, query, findings)
    wrt = _differentiated(program, query, findings)
    findings.check()
    examples = _count_examples(program, query, limits)
    if program.widest_empty * examples >= shapes.MAX_ELEMENTS:
        raise _not_addressable(program, examples)
    job = _planned(program, query, wrt, examples, limits, threads)
    return within(job, limits)


def within(job: Job, limits: Limits) -> Job:
    """The job, if there may be as much memory as it takes.

    Raises:
        Refusal: LIMIT_EXCEEDED.
    """
    if job.memory > limits.max_memory_bytes:
        raise _too_large(job, limits)
    return job


def _check_tensors(program: Program, query: Query, findings: Findings) -> None:
    def tell(name: str, message: str) -> None:
        findings.tell(Reason.INVALID_TENSOR, message, f"tensors[{shown(name)}]")

    surplus = [name for name in query.arrays if name not in program.by_name]
    for position, name in enumerate(surplus):
        if findings.another():
            hint = _hint(name, program) if position < HINTS else ""
            tell(name, f"tensor {shown(name)} is surplus: the graph has no parameter or input of that name{hint}")
    for source in program.sources:
        array = query.arrays.get(source.name)
        if array is None:
            if findings.another():
                tell(source.name, f"tensor of {source} is missing; expected shape {_expected(source)}")
            continue
        dtype = INTEGER if source.integer else query.dtype
        if array.dtype != dtype and findings.another():
            tell(source.name, f"tensor of {source} has dtype {array.dtype}; expected {dtype}")
        batch = 1 if source.per_example else 0
        if (array.ndim < batch or array.shape[batch:] != source.shape) and findings.another():
            found = shapes.text(array.shape)
            tell(source.name, f"tensor of {source} has shape {found}; expected {_expected(source)}")


def _hint(name: str, program: Program) -> str:
    few = {source.name[:SHOWN]: source for source in program.sources[:HINTED]}
    close = get_close_matches(name[:SHOWN], few, 1)
    return f"; did you mean {shown(few[close[0]].name)}?" if close else f"; it has {_listed(program.sources)}"


def _expected(source: Source) -> str:
    if not source.per_example:
        return shapes.text(source.shape)
    return f"(N{''.join(f', {length}' for length in source.shape[:8])}) with one row for each of N examples"


def _listed(sources: Iterable[Source]) -> str:
    first = [shown(source.name) for source in islice(sources, LISTED + 1)]
    return (", ".join(first[:LISTED]) or "none") + (", ..." if len(first) > LISTED else "")


def _check_outputs(program: Program, query: Query, findings: Findings) -> None:
    seen: set[int] = set()
    for position, node in enumerate(query.outputs):
        if not 0 <= node < len(program.shapes):
            wrong = f"output {node} is past the end of the graph's {len(program.shapes)} nodes"
        elif node in seen:
            wrong = f"output {node} is given twice; give each node once"
        else:
            seen.add(node)
            continue
        findings.add(Reason.INVALID_REQUEST, wrong, f"outputs[{position}]")
        return


def _differentiated(program: Program, query: Query, findings: Findings) -> tuple[Source, ...]:
    if query.wrt is None:
        return program.parameters
    chosen: dict[str, Source] = {}
    for position, name in enumerate(query.wrt):
        source = program.by_name.get(name)
        if source is not None and not source.integer and name not in chosen:
            chosen[name] = source
        elif findings.another():
            if source is None:
                known = _listed(s for s in program.sources if not s.integer)
                wrong = f"{shown(name)}, which is no parameter or input of the graph; it has {known}"
            elif source.integer:
                wrong = f"input {shown(name)} of dtype int64; only float tensors have one"
            else:
                wrong = f"{shown(name)} twice; give each name once"
            findings.tell(Reason.INVALID_REQUEST, f"gradient asked for {wrong}", f"wrt.names[{position}]")
    return tuple(chosen.values())


def _count_examples(program: Program, query: Query, limits: Limits) -> int:
    if not program.batched:
        return 1
    batched = [source.name for source in program.sources if source.per_example]
    first = batched[0]
    examples = len(query.arrays[first])
    for name in batched[1:]:
        other = len(query.arrays[name])
        if other != examples:
            raise refuse(
                Reason.INVALID_TENSOR,
                f"input {shown(first)} has {examples} examples, input {shown(name)} has {other}; "
                "all per-example inputs have the same number",
                f"tensors[{shown(name)}]",
            )
    if examples > limits.max_examples:
        raise refuse(
            Reason.LIMIT_EXCEEDED,
            f"input {shown(first)} has {examples} examples; this server takes at most {limits.max_examples} in one "
            "request (max_examples); send them in parts",
            f"tensors[{shown(first)}]",
            found=examples,
            limit=limits.max_examples,
            setting="max_examples",
        )
    if examples == 0 and query.reduction is Reduction.MEAN:
        raise refuse(
            Reason.INVALID_TENSOR,
            f"input {shown(first)} has 0 examples, which have no mean; send at least one, or reduce by sum or none",
            f"tensors[{shown(first)}]",
        )
    return examples


def _not_addressable(program: Program, examples: int) -> Refusal:
    # Tensors with elements are small enough, for they take memory.
    empty = [node for node, shape in enumerate(program.shapes) if 0 in shape]
    node = max(empty, key=lambda n: shapes.addressed(program.shapes[n]))
    wrong = shapes.problem((examples, *program.shapes[node]), MAX_RANK + 1)
    return refuse(
        Reason.INVALID_REQUEST,
        f'with {examples} examples, node "{program.label(node)}" {wrong}; send fewer examples, or no axes of such '
        "sizes in an empty tensor",
        node=program.label(node),
    )


class _Asked(NamedTuple):
    """What is asked of a program, by its own nodes."""

    program: Program
    wrt: tuple[Source, ...]
    outputs: tuple[int, ...]
    examples: int
    dtype: np.dtype[np.floating]
    separate: bool
    """Whether each example has gradients of its own."""

    def packed(self) -> _Asked | None:
        """The same of what may run in its place, if all nodes are there that it is about."""
        packed = self.program.packed
        if packed is None or any(node not in packed.places for node in self.outputs):
            return None
        wrt = tuple([packed.program.by_name[source.name] for source in self.wrt])
        outputs = tuple([packed.places[node] for node in self.outputs])
        return self._replace(program=packed.program, wrt=wrt, outputs=outputs)


def _planned(
    program: Program, query: Query, wrt: tuple[Source, ...], examples: int, limits: Limits, threads: int
) -> Job:
    separate = program.batched and query.reduction is Reduction.NONE
    asked = _Asked(program, wrt, query.outputs, examples, query.dtype, separate)
    packed = asked.packed()
    if packed is not None:
        job = _job(program, query, packed, limits, threads)

        def as_sent() -> Job:
            # In the same blocks, and in the memory that is counted for it.
            within = replace(limits, max_memory_bytes=job.memory)
            return _job(program, query, asked, within, threads, plain=True, lanes=job.lanes)

        return replace(job, plain=as_sent)
    job = _job(program, query, asked, limits, threads)
    if not job.plan.merged:
        return job
    plain = _job(program, query, asked, limits, threads, plain=True)
    return replace(job, memory=max(job.memory, plain.memory), plain=lambda: plain)


def _job(
    program: Program,
    query: Query,
    asked: _Asked,
    limits: Limits,
    threads: int,
    *,
    plain: bool = False,
    lanes: int | None = None,
) -> Job:
    wrt = tuple([source.node for source in asked.wrt])
    plan = asked.program.plan(wrt, asked.outputs, separate=asked.separate, plain=plain)
    case = asked.examples, asked.dtype, threads, limits.max_memory_bytes, lanes
    measure = plan.measures.get(case)
    if measure is None:
        instead = None if asked.program is program else program.at_most
        measure = _measure(asked, plan, limits, threads, lanes, instead)
        if len(plan.measures) >= MEASURES:
            plan.measures.clear()
        plan.measures[case] = measure
    return Job(
        program=program,
        query=query,
        runs=asked.program,
        plan=plan,
        wrt=asked.wrt,
        outputs=asked.outputs,
        examples=asked.examples,
        **measure,
    )


def _measure(
    asked: _Asked, plan: Plan, limits: Limits, threads: int, lanes: int | None, instead: Takes | None
) -> Measure:
    """What a job takes, in blocks of so many examples if that is said; with memory to run ``instead`` on one thread."""
    program, wrt, outputs, examples, dtype, separate = asked
    shared, own = plan.shared, plan.lanes
    a_lane = own.values.elements + own.adjoints.elements
    if separate:
        a_lane += shared.adjoints.elements
    unshared = a_lane - own.values.elements + own.schedule.whole[1]
    if lanes is None:
        lanes = _lanes(plan, max(1, (unshared + plan.streamed_elements) * dtype.itemsize))
    dependent = program.per_example[program.graph.loss] or any(program.per_example[node] for node in outputs)
    blocks = -(-examples // lanes) if dependent else 0
    results = sum(
        shapes.size(source.shape) * (examples if separate or source.per_example else 1) for source in wrt
    ) + sum(shapes.size(program.shapes[n]) * (examples if program.per_example[n] else 1) for n in outputs)
    if separate:
        results += examples  # The losses.
    calls = blocks * (len(own.schedule.forward) + (len(shared.backward) if separate else 0))
    calls += len(shared.schedule.forward)
    work = own.work * examples + shared.work + results
    cost = SECONDS_PER_CALL * calls + SECONDS_PER_STEP * work
    in_block = min(lanes, max(1, examples))
    wide = accumulator(dtype, blocks) != dtype
    kernel = kernel_scratch(in_block)

    def memory(takes: Takes, threads: int) -> int:
        # What examples share is searched in the places that it has.
        at_once = lanes_diagnosed(takes.gradients, in_block, dtype.itemsize)
        diagnosed = 3 * takes.gradients * at_once if blocks else 0
        # Values and gradients of a block; what operations take; and the search for what made a gradient not finite.
        a_thread = in_block * (takes.values + takes.adjoints) + 2 * kernel
        a_thread += in_block * takes.scratch + diagnosed + takes.shared_scratch
        a_thread += takes.part_scratch * lanes_at_once(takes.part_scratch, in_block)
        waiting = max(1, _ahead(threads, blocks)) * (takes.sums * (in_block if separate else 1) + kernel)
        # A sum over many blocks of float32 is in float64, and is kept while what examples share is differentiated.
        once = takes.shared_values + (5 if wide else 3) * takes.sums + 2 * kernel_scratch(1)
        objects = threads * (REPORT_BYTES + 3 * VIEW_BYTES * takes.nodes)
        return dtype.itemsize * (threads * a_thread + waiting + once + results) + objects

    takes = _taken(program, plan)
    threads = min(threads, max(1, blocks), round(cost / SECONDS_PER_THREAD))
    while threads > 1 and memory(takes, threads) > limits.max_memory_bytes:
        threads -= 1
    needed = memory(takes, max(1, threads))
    return Measure(
        lanes=lanes,
        blocks=blocks,
        threads=threads,
        ahead=_ahead(threads, blocks),
        cost=cost,
        memory=needed if instead is None else max(needed, memory(instead, 1)),
    )


def _taken(program: Program, plan: Plan) -> Takes:
    """What an evaluation takes with this plan."""
    shared, own = plan.shared, plan.lanes
    return Takes(
        values=own.values.elements,
        adjoints=own.adjoints.elements,
        shared_values=shared.values.elements,
        sums=shared.adjoints.elements,
        gradients=gradients_of_lane(program, plan),
        scratch=plan.scratch,
        part_scratch=plan.part_scratch,
        shared_scratch=plan.shared_scratch,
        nodes=len(program.shapes),
    )


def _ahead(threads: int, blocks: int) -> int:
    return min(blocks, 1 if threads <= 1 else 2 * threads)


def _lanes(plan: Plan, nbytes: int) -> int:
    """Examples of a block, of which each takes that many bytes."""
    steps, elements = plan.lanes.schedule.whole
    worthwhile = WORTHWHILE * steps // max(1, elements)
    fitting = max(BLOCK_BYTES // nbytes, min(worthwhile, MAX_BLOCK_BYTES // nbytes))
    fitting = min(fitting, max(PRODUCT_LANES, BLOCK_WORK // max(1, plan.lanes.work)))
    return min(MAX_LANES, 1 << max(0, fitting.bit_length() - 1))


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
