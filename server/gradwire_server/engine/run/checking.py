"""Checks of gradients that were asked for: bound like requests, their cost known before they run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, checked, unhurried
from gradwire_server.engine.explain.check import Settings, SourceCheck, check_gradient
from gradwire_server.engine.graph.graph import Array
from gradwire_server.engine.run.evaluation import run
from gradwire_server.engine.run.job import Job, bind, too_large
from gradwire_server.engine.run.program import Program
from gradwire_server.engine.run.query import Query
from gradwire_server.limits import Limits

WIDE = np.dtype(np.float64)
"""What differences are taken in."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A check whose request fits its graph, ready to run."""

    job: Job
    """The gradient."""
    losses: Job
    """The loss in float64, bound to arrays of no memory."""
    settings: Settings
    cost: float
    """Rough estimate of the computing time, with all differences, in seconds on one core."""
    memory: int
    """Bytes that it takes at the peak."""


def bind_check(
    program: Program, query: Query, settings: Settings, limits: Limits, checkpoint: Checkpoint = unhurried
) -> Check:
    """Check what is to be compared: the gradient that a query asks for, with central differences in float64.

    Raises:
        Refusal: see ``bind``; whatever ``checkpoint`` raises.
    """
    arrays = query.arrays
    job = bind(program, query, limits, checkpoint=checkpoint)
    wide = {
        name: array if array.dtype == np.int64 else np.broadcast_to(np.float64(0), array.shape)
        for name, array in checked(arrays.items(), checkpoint)
    }
    asked = query._replace(arrays=wide, dtype=WIDE, wrt=(), outputs=(), reject_non_finite=False)
    losses = bind(program, asked, limits, checkpoint=checkpoint)
    copies = WIDE.itemsize * sum([array.size for array in wide.values()])
    gradients = sum([arrays[source.name].nbytes for source in job.wrt])
    memory = max(job.memory, losses.memory + copies + gradients)
    if memory > limits.max_memory_bytes:
        question = job.bound.question
        raise too_large(program.checked, question, memory, job.examples, "make it smaller", limits)
    evaluations = 1 + sum([settings.evaluations(arrays[source.name].size) for source in job.wrt])
    cost = job.cost + evaluations * losses.cost
    return Check(job=job, losses=losses, settings=settings, cost=cost, memory=memory)


def run_check(check: Check, checkpoint: Checkpoint) -> tuple[SourceCheck, ...]:
    """Compare the gradient with the differences; see ``check_gradient``.

    Raises:
        Refusal: see ``run``; INVALID_REQUEST if the step is lost in an element.
    """

    def loss(arrays: Mapping[str, Array]) -> float:
        losses = check.losses._replace(query=check.losses.query._replace(arrays=arrays))
        return float(run(losses, checkpoint).loss)

    job = check.job
    gradients = run(job, checkpoint).gradients
    return check_gradient(job.wrt, job.query.arrays, gradients, loss, check.settings, checkpoint)
