"""A request, checked against a program: what it will cost is known before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from difflib import get_close_matches

import numpy as np

from gradwire_server.engine import shapes
from gradwire_server.engine.graph import Array, Reduction
from gradwire_server.engine.limits import Limits
from gradwire_server.engine.plan import Plan
from gradwire_server.engine.program import Program, Source
from gradwire_server.errors import Finding, Reason, Refusal, refuse, shown

BLOCK_BYTES = 4 << 20
"""Bytes that the values and gradients of a block of examples may take, so that they stay in the cache."""

MAX_BLOCK_BYTES = 64 << 20
"""Bytes that they may take where tensors are so small that the calls of their operations take all the time."""

WORTHWHILE = 512
"""Elements on which an operation takes about as long as its call."""

MAX_LANES = 4096
"""Examples of a block, at most."""

SECONDS_PER_INSTRUCTION = 12e-6
SECONDS_PER_STEP = 3e-9


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
    query: Query
    plan: Plan
    wrt: tuple[Source, ...]
    examples: int
    """N, or 1 if the graph has no per-example input."""
    lanes: int
    """Examples of a block; a function of graph, dtype and question alone, so that sums never change their order."""
    cost: float
    """Rough estimate of the computing time, in seconds on one core."""
    memory: int
    """Estimate of the memory at the peak, results included, in bytes."""

    @property
    def per_example_gradients(self) -> bool:
        """Whether every gradient has the leading axis N."""
        return self.program.batched and self.query.reduction is Reduction.NONE


def bind(program: Program, query: Query, limits: Limits) -> Job:
    """Check a query against a program.

    Raises:
        Refusal: with every finding (INVALID_TENSOR, INVALID_REQUEST, LIMIT_EXCEEDED).
    """
    findings = [*_check_tensors(program, query), *_check_outputs(program, query)]
    wrt, wrong = _differentiated(program, query)
    findings += wrong
    if findings:
        raise Refusal(findings[:20], len(findings))
    examples = _count_examples(program, query, limits)
    if program.widest_empty * examples >= shapes.MAX_ELEMENTS:
        raise _not_addressable(program, examples)
    plan = program.plan(tuple(source.node for source in wrt), query.outputs)
    job = _measured(program, query, plan, wrt, examples)
    if job.memory > limits.max_memory_bytes:
        raise _too_large(job, limits)
    return job


def _check_tensors(program: Program, query: Query) -> list[Finding]:
    findings: list[Finding] = []

    def find(name: str, message: str) -> None:
        path = f"tensors[{shown(name)}]"
        findings.append(Finding(reason=Reason.INVALID_TENSOR, message=message, path=path))

    names = {source.name for source in program.sources}
    for name in query.arrays:
        if name not in names:
            close = get_close_matches(name[:64], sorted(names), 1)
            hint = f"; did you mean {shown(close[0])}?" if close else f"; it has {_listed(names)}"
            find(name, f"tensor {shown(name)} is surplus: the graph has no parameter or input of that name{hint}")
    for source in program.sources:
        array = query.arrays.get(source.name)
        if array is None:
            find(source.name, f"tensor of {source} is missing; expected shape {_expected(source)}")
            continue
        dtype = np.dtype(np.int64) if source.integer else query.dtype
        if array.dtype != dtype:
            find(source.name, f"tensor of {source} has dtype {array.dtype}; expected {dtype}")
        batch = 1 if source.per_example else 0
        if array.ndim < batch or array.shape[batch:] != source.shape:
            found = shapes.text(array.shape)
            find(source.name, f"tensor of {source} has shape {found}; expected {_expected(source)}")
    return findings


def _expected(source: Source) -> str:
    if not source.per_example:
        return shapes.text(source.shape)
    return f"(N{''.join(f', {length}' for length in source.shape[:8])}) with one row for each of N examples"


def _listed(names: set[str]) -> str:
    few = ", ".join(shown(name) for name in sorted(names)[:8])
    return (few or "none") + (", ..." if len(names) > 8 else "")


def _check_outputs(program: Program, query: Query) -> list[Finding]:
    findings: list[Finding] = []
    for position, node in enumerate(query.outputs):
        message = None
        if not 0 <= node < len(program.shapes):
            message = f"output {node} is past the end of the graph's {len(program.shapes)} nodes"
        elif node in query.outputs[:position]:
            message = f"output {node} is given twice; give each node once"
        if message is not None:
            path = f"outputs[{position}]"
            findings.append(Finding(reason=Reason.INVALID_REQUEST, message=message, path=path))
            break
    return findings


def _differentiated(program: Program, query: Query) -> tuple[tuple[Source, ...], list[Finding]]:
    names = program.parameters if query.wrt is None else query.wrt
    by_name = {source.name: source for source in program.sources}
    chosen: dict[str, Source] = {}
    findings: list[Finding] = []
    for position, name in enumerate(names):
        source = by_name.get(name)
        if source is None:
            known = _listed({s.name for s in program.sources if not s.integer})
            message = f"gradient asked for {shown(name)}, which is no parameter or input of the graph; it has {known}"
        elif source.integer:
            message = f"gradient asked for input {shown(name)} of dtype int64; only float tensors have one"
        elif name in chosen:
            message = f"gradient asked for {shown(name)} twice; give each name once"
        else:
            chosen[name] = source
            continue
        path = f"wrt.names[{position}]"
        findings.append(Finding(reason=Reason.INVALID_REQUEST, message=message, path=path))
    return tuple(chosen.values()), findings


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
    wrong = shapes.problem((examples, *program.shapes[node]), shapes.MAX_RANK + 1)
    return refuse(
        Reason.INVALID_REQUEST,
        f'with {examples} examples, node "{program.label(node)}" {wrong}; send fewer examples, or no axes of such '
        "sizes in an empty tensor",
        node=program.label(node),
    )


def _measured(program: Program, query: Query, plan: Plan, wrt: tuple[Source, ...], examples: int) -> Job:
    itemsize = query.dtype.itemsize
    separate = program.batched and query.reduction is Reduction.NONE
    shared, lanes_stage = plan.shared, plan.lanes
    a_lane = lanes_stage.values.elements + lanes_stage.adjoints.elements + plan.streamed_elements
    if separate:
        a_lane += shared.adjoints.elements
    lanes = _lanes(plan, max(1, a_lane * itemsize))
    blocks = -(-examples // lanes)
    results = sum(
        shapes.size(source.shape) * (examples if separate or source.per_example else 1) for source in wrt
    ) + sum(shapes.size(program.shapes[n]) * (examples if program.per_example[n] else 1) for n in query.outputs)
    if separate:
        results += examples  # The losses.
    in_block = min(lanes, max(1, examples))
    memory = itemsize * (
        shared.values.elements + 2 * shared.adjoints.elements + in_block * (a_lane + plan.scratch) + results
    )
    run = blocks * (len(lanes_stage.instructions) + (len(shared.backward) if separate else 0))
    work = lanes_stage.work * examples + shared.work
    cost = SECONDS_PER_INSTRUCTION * (run + len(shared.instructions)) + SECONDS_PER_STEP * (work + results)
    return Job(
        program=program,
        query=query,
        plan=plan,
        wrt=wrt,
        examples=examples,
        lanes=lanes,
        cost=cost,
        memory=memory,
    )


def _lanes(plan: Plan, nbytes: int) -> int:
    """Examples of a block, of which each takes that many bytes."""
    worthwhile = WORTHWHILE * len(plan.lanes.instructions) // max(1, plan.lanes.values.elements)
    fitting = max(BLOCK_BYTES // nbytes, min(worthwhile, MAX_BLOCK_BYTES // nbytes))
    return min(MAX_LANES, 1 << max(0, fitting.bit_length() - 1))


def _too_large(job: Job, limits: Limits) -> Refusal:
    program = job.program
    needed = [n for n, used in enumerate(job.plan.needed) if used]
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
