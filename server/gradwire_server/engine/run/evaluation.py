"""Value and gradient of a request: one compiled call for each thread."""

from __future__ import annotations

from functools import partial
from math import isfinite
from typing import NamedTuple

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.explain.nonfinite import NonFinite
from gradwire_server.engine.graph.graph import Array, Reduction
from gradwire_server.engine.lowering import rows as r
from gradwire_server.engine.lowering.addresses import handle
from gradwire_server.engine.machine.evaluate import evaluate
from gradwire_server.engine.run.faults import Search, index_refusal
from gradwire_server.engine.run.idle import IDLE_ROOMS
from gradwire_server.engine.run.job import Job, part_of
from gradwire_server.engine.run.room import Room
from gradwire_server.engine.run.stopping import WATCH
from gradwire_server.engine.run.threads import ONE, Threads
from gradwire_server.engine.run.wiring import Gradient
from gradwire_server.errors import Reason, Refusal, refuse

WIDE = 8
"""Bytes of a float64."""

LONG = 2e-3
"""Seconds of work from which on somebody looks whether it is still wanted."""


class Evaluation(NamedTuple):
    """What a job gave."""

    loss: Array
    """Scalar, or [N] without a reduction."""
    gradients: dict[str, Array]
    """By source: [*shape], or [N, *shape] without a reduction and of per-example inputs."""
    outputs: dict[int, Array]
    """By sent node: [*shape], or [N, *shape] of nodes that depend on examples."""
    non_finite: NonFinite | None
    examples: int
    blocks: int


def run(job: Job, checkpoint: Checkpoint, threads: Threads = ONE) -> Evaluation:
    """Run a job; ``checkpoint`` is called now and then while a long one runs, on another thread, and may raise.

    Raises:
        Refusal: INDEX_OUT_OF_RANGE; NON_FINITE if the query rejects it; whatever ``checkpoint`` raises.
    """
    bound = job.bound
    layout = bound.layout
    room = IDLE_ROOMS.take(bound)
    results, losses = _attach(job, room)
    if layout.cost < LONG:
        compute(room, threads)
    else:
        with WATCH.stopping(room.stop, checkpoint):
            compute(room, threads)
    status = room.work[r.W_STATUS]
    if status & r.BAD_INDEX:
        raise index_refusal(job)
    loss = _loss(job, room, results, losses)
    report = None
    if status or not (bound.question.separate or isfinite(loss)):
        search, sums = _search(job, room, status, results, checkpoint)
        # It is not needed beside those of parts.
        room.free()
        report = search.report(status, loss, sums)
        loss = np.where(np.isnan(loss), np.nan, loss).astype(loss.dtype)  # NaN of one sign
        if report is not None and job.query.reject_non_finite:
            raise _rejected(report)
    else:
        IDLE_ROOMS.keep(bound, room)
    gradients = {
        own.name: results[own.array] if own.as_it_is else _gradient(own, results, job) for own in bound.wiring.gradients
    }
    outputs = _outputs(job, results) if job.query.outputs else {}
    return Evaluation(loss, gradients, outputs, report, layout.examples, layout.tiles)


def _attach(job: Job, room: Room) -> tuple[list[Array], Array | None]:
    """Give the machine the arrays of a request; gives those of results, and of losses of examples."""
    bound, arrays = job.bound, job.query.arrays
    wiring, dtype = bound.wiring, bound.dtype
    losses = np.empty(job.examples, dtype) if bound.question.separate else None
    results = [np.empty(shape, dtype) for shape in wiring.results]
    handles = [*map(handle, map(arrays.__getitem__, wiring.sources))]
    handles += map(handle, map(results.__getitem__, wiring.numbers))
    if losses is not None:
        handles.append(handle(losses))
    room.attach(handles)
    return results, losses


def _search(
    job: Job, room: Room, status: int, results: list[Array], checkpoint: Checkpoint
) -> tuple[Search, dict[int, Array]]:
    """How to look for what is not finite, and gradients by node as far as they are sums over examples."""
    flags = room.flags.copy()
    totals = {
        node: room.sums[0, begin : begin + size]
        for node, begin, size in job.bound.code.sums
        if begin + size <= room.sums.shape[1]
    }
    if job.bound.layout.direct and status & r.BAD_SUM:
        flags[0] |= r.BAD_GRADIENT
    with np.errstate(over="ignore"):
        sums = {
            node: total.astype(job.query.dtype).reshape(job.program.checked.shape(node))
            for node, total in totals.items()
        }
    for own in job.bound.wiring.gradients:
        if own.array >= 0 and not own.repeated and own.shape == job.program.facts.by_name[own.name].shape:
            sums.setdefault(job.program.facts.by_name[own.name].node, results[own.array])

    rooms: dict[int, Room] = {}

    def run_part(begin: int, end: int) -> int:
        part = part_of(job, begin, end)
        if end - begin not in rooms:
            # One at a time: halves of a part are as large as each other, and smaller than the part.
            rooms.clear()
            rooms[end - begin] = part.bound.new_room()
        own = rooms[end - begin]
        kept = _attach(part, own)
        compute(own, ONE)
        del kept
        found: int = own.work[r.W_STATUS]
        return found | (r.BAD_GRADIENT if found & r.BAD_SUM else 0)

    return Search(job, flags, run_part, checkpoint), sums


def _rejected(report: NonFinite) -> Refusal:
    return refuse(
        Reason.NON_FINITE,
        report.message,
        f"graph.nodes[{report.node}]",
        node=report.name,
        phase=report.phase,
        example="" if report.example is None else report.example,
    )


def compute(room: Room, threads: Threads) -> None:
    """Have the machine go through the request."""
    room.begin()
    leader, *others = room.addresses
    if not others:
        evaluate(leader, room.work_address, True, room.one)
        return
    with threads.caller():
        helpers = threads.help([partial(evaluate, own, room.work_address, False, room.one) for own in others])
        evaluate(leader, room.work_address, True, room.one)
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def _loss(job: Job, room: Room, results: list[Array], losses: Array | None) -> Array:
    if losses is not None and job.program.lanes_loss:
        return losses
    bound, reduction, dtype = job.bound, job.query.reduction, job.bound.dtype
    if job.program.lanes_loss:
        total = room.losses[0] / bound.divisor
        if dtype.itemsize == WIDE:
            return np.array(total)
        with np.errstate(over="ignore"):
            return np.array(total).astype(dtype)
    own = results[bound.wiring.outputs[job.program.checked.graph.loss]]
    if losses is not None:
        return np.full(job.examples, own, dtype)
    if reduction is Reduction.SUM and job.program.facts.batched:
        return np.multiply(own, job.examples, dtype=dtype) if job.examples else np.zeros_like(own)
    return own


def _gradient(own: Gradient, results: list[Array], job: Job) -> Array:
    if own.array < 0:
        return np.zeros(own.shape, job.bound.dtype)
    found = results[own.array]
    if own.repeated:
        return np.broadcast_to(found, own.shape).copy()
    if own.divided:
        np.divide(found, job.examples, out=found)
    return found


def _outputs(job: Job, results: list[Array]) -> dict[int, Array]:
    outputs, numbers = {}, job.bound.wiring.outputs
    for sent, node in zip(job.query.outputs, job.bound.question.outputs, strict=True):
        found = numbers.get(node)
        outputs[sent] = job.program.integer(node, job.query.arrays) if found is None else results[found]
    return outputs
