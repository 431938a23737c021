"""Traces that were asked for: checked against the graph, their cost known before they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, unhurried
from gradwire_server.engine.explain.trace import Trace, elements_of_trace, memory_of_trace, trace
from gradwire_server.engine.graph.checking import Checked
from gradwire_server.engine.graph.graph import Array
from gradwire_server.engine.lowering.question import Question
from gradwire_server.engine.run.facts import Facts
from gradwire_server.engine.run.job import too_large
from gradwire_server.engine.run.program import Program
from gradwire_server.engine.run.query import Query, fit
from gradwire_server.limits import Limits

SECONDS_PER_NODE, SECONDS_PER_ELEMENT = 6e-5, 1e-8
"""Rough time for a node or an operand, and for an element of the trace."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TraceJob:
    """A request for a trace that fits its graph, ready to run."""

    checked: Checked
    """The graph, for one example whose inputs have no axis of examples."""
    arrays: Mapping[str, Array]
    dtype: np.dtype[np.floating]
    cost: float
    """Rough estimate of the computing time, in seconds on one core."""
    memory: int
    """Bytes that it takes at most, with the reply."""
    result_bytes: int
    """Bytes of all tensors of the trace."""


def bind_trace(
    program: Program,
    arrays: Mapping[str, Array],
    dtype: np.dtype[np.floating],
    limits: Limits,
    checkpoint: Checkpoint = unhurried,
) -> TraceJob:
    """Check what is to be traced.

    Raises:
        Refusal: INVALID_TENSOR, INVALID_REQUEST, LIMIT_EXCEEDED; whatever ``checkpoint`` raises.
    """
    sources = tuple([replace(source, per_example=False) for source in program.sources])
    checked = replace(program.checked, sources=sources, per_example=np.zeros_like(program.checked.per_example))
    fit(Facts(checked), Query(arrays=arrays, dtype=dtype), limits, checkpoint)
    memory = memory_of_trace(checked, dtype)
    if memory > limits.max_memory_bytes:
        everything = Question((), tuple(range(len(checked))), separate=False)
        raise too_large(checked, everything, memory, 1, "make it smaller", limits)
    elements = elements_of_trace(checked)
    cost = SECONDS_PER_NODE * program.size + SECONDS_PER_ELEMENT * elements
    result_bytes = elements * dtype.itemsize
    return TraceJob(checked=checked, arrays=arrays, dtype=dtype, cost=cost, memory=memory, result_bytes=result_bytes)


def run_trace(job: TraceJob, checkpoint: Checkpoint) -> Trace:
    """Trace what was bound.

    Raises:
        Refusal: INDEX_OUT_OF_RANGE; whatever ``checkpoint`` raises.
    """
    return trace(job.checked, job.arrays, job.dtype, checkpoint)
