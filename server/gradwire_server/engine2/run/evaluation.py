"""Value and gradient of a request: one compiled call for each thread."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from math import isfinite

import numpy as np

from gradwire_server.engine2.checkpoints import Checkpoint
from gradwire_server.engine2.explain.nonfinite import NonFinite
from gradwire_server.engine2.graph.graph import Array, Reduction
from gradwire_server.engine2.lowering import rows as r
from gradwire_server.engine2.lowering.buffers import Attached, Own, Role
from gradwire_server.engine2.machine.evaluate import evaluate
from gradwire_server.engine2.run.faults import Search, index_refusal
from gradwire_server.engine2.run.job import Job, attached, part_of
from gradwire_server.engine2.run.room import Room, address
from gradwire_server.engine2.run.stopping import WATCH
from gradwire_server.engine2.run.threads import ONE, Threads
from gradwire_server.errors import Reason, Refusal, refuse

LONG = 2e-3
"""Seconds of work from which on somebody looks whether it is still wanted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluation:
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
    room = bound.room(job.program)
    results = _results(job)
    losses = np.empty(job.examples if job.per_example_gradients else 0, job.query.dtype)
    for number, array in attached(job, results):
        room.attach(number, address(array))
    room.attach(Own.LOSSES, address(losses))
    if bound.layout.cost < LONG:
        compute(room, threads)
    else:
        with WATCH.stopping(room.stop, checkpoint):
            compute(room, threads)
    status = int(room.work[r.W_STATUS])
    if status & r.BAD_INDEX:
        raise index_refusal(job, room)
    loss = _loss(job, room, results, losses)
    report = None
    if status or not (job.per_example_gradients or isfinite(loss)):
        report = _report(job, room, status, loss, results, checkpoint)
        loss = np.where(np.isnan(loss), np.nan, loss).astype(loss.dtype)  # NaN of one sign
    bound.rooms.append(room)
    if report is not None and job.query.reject_non_finite:
        raise _rejected(report)
    return Evaluation(
        loss=loss,
        gradients=_gradients(job, results),
        outputs=_outputs(job, results),
        non_finite=report,
        examples=job.examples,
        blocks=job.blocks,
    )


def _report(
    job: Job, room: Room, status: int, loss: Array, results: dict[Attached, Array], checkpoint: Checkpoint
) -> NonFinite | None:
    flags = room.flags.copy()
    totals = {node: room.sums[0, begin : begin + size] for node, begin, size in job.bound.code.sums}
    with np.errstate(over="ignore"):
        sums = {
            node: total.astype(job.query.dtype).reshape(job.program.checked.shape(node))
            for node, total in totals.items()
        }
    for attachment, array in results.items():
        if attachment.role is Role.GRADIENT and not attachment.examples:
            sums.setdefault(attachment.node, array)

    def run_part(begin: int, end: int) -> int:
        part = part_of(job, begin, end)
        own = part.bound.room(job.program)
        outcome = _results(part)
        spare = np.empty(end - begin, job.query.dtype)
        for number, array in attached(part, outcome):
            own.attach(number, address(array))
        own.attach(Own.LOSSES, address(spare))
        compute(own, ONE)
        part.bound.rooms.append(own)
        found = int(own.work[r.W_STATUS])
        return found | (r.BAD_GRADIENT if found & r.BAD_SUM else 0)

    return Search(job, flags, run_part, checkpoint).report(status, loss, sums)


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
    with threads.caller():
        helpers = threads.help([partial(evaluate, own, room.work_address, False, room.one) for own in room.addresses[1:]])
        evaluate(room.addresses[0], room.work_address, True, room.one)
        for helper in helpers:
            if not helper.cancel():
                helper.result()


def _results(job: Job) -> dict[Attached, Array]:
    checked, examples = job.program.checked, job.examples
    return {
        own: np.empty(((examples,) if own.examples else ()) + checked.shape(own.node), job.query.dtype)
        for _, own in job.bound.buffers
        if own.role is not Role.SOURCE
    }


def _loss(job: Job, room: Room, results: dict[Attached, Array], losses: Array) -> Array:
    reduction, examples, dtype = job.query.reduction, job.examples, job.query.dtype
    if job.program.lanes_loss:
        if job.per_example_gradients:
            return losses
        total = room.losses[0] / examples if reduction is Reduction.MEAN else room.losses[0]
        with np.errstate(over="ignore"):
            return np.asarray(total).astype(dtype)
    own = results[Attached(Role.OUTPUT, job.program.checked.graph.loss, False)]
    if job.per_example_gradients:
        return np.full(examples, own, dtype)
    if reduction is Reduction.SUM and job.program.facts.batched:
        return np.multiply(own, examples, dtype=dtype) if examples else np.zeros_like(own)
    return own


def _gradients(job: Job, results: dict[Attached, Array]) -> dict[str, Array]:
    gradients = {}
    for source in job.wrt:
        examples = source.per_example or job.per_example_gradients
        shape = ((job.examples,) if examples else ()) + source.shape
        found = results.get(Attached(Role.GRADIENT, source.node, examples))
        if found is None:
            shared = results.get(Attached(Role.GRADIENT, source.node, False))
            found = np.zeros(shape, job.query.dtype) if shared is None else np.broadcast_to(shared, shape).copy()
        elif source.per_example and job.query.reduction is Reduction.MEAN:
            np.divide(found, job.examples, out=found)
        gradients[source.name] = found
    return gradients


def _outputs(job: Job, results: dict[Attached, Array]) -> dict[int, Array]:
    checked = job.program.checked
    outputs = {}
    for sent, node in zip(job.query.outputs, job.bound.question.outputs, strict=True):
        found = results.get(Attached(Role.OUTPUT, node, bool(checked.per_example[node])))
        outputs[sent] = job.program.integer(node, job.query.arrays) if found is None else found
    return outputs
