"""Value and gradient over examples: blocks run one after another, and what they give is added in their order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from gradwire_server.engine import nonfinite, shapes
from gradwire_server.engine.diagnosis import bad_step, bad_step_of_block, shared_adjoints
from gradwire_server.engine.executor import (
    Checkpoint,
    Kernel,
    StepError,
    Values,
    backward,
    forward,
    none,
)
from gradwire_server.engine.graph import Array, Reduction
from gradwire_server.engine.job import BLOCK_BYTES, Job
from gradwire_server.engine.kernels import walk
from gradwire_server.engine.lowering import Run, Step, TapeRun
from gradwire_server.engine.memory import Arena, Stored, StoredAdjoints
from gradwire_server.engine.nonfinite import NonFinite, Phase
from gradwire_server.engine.plan import Stage
from gradwire_server.engine.program import Program
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


def run(job: Job, checkpoint: Checkpoint) -> Evaluation:
    """Run a job; ``checkpoint`` is called between blocks and instructions, and may raise.

    Raises:
        Refusal: INDEX_OUT_OF_RANGE; NON_FINITE if the query rejects it; whatever ``checkpoint`` raises.
    """
    with np.errstate(all="ignore"):
        try:
            evaluation = _Evaluator(job, checkpoint).evaluate()
        except _NotFiniteError as error:
            evaluation = _Evaluator(error.plain, checkpoint).evaluate()
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


def run_forward(
    program: Program,
    steps: Sequence[Step],
    values: Values,
    start: int,
    checkpoint: Checkpoint,
    kernel: Kernel = none,
) -> None:
    """Run the steps of a stage forward; examples count from ``start``.

    Raises:
        Refusal: INDEX_OUT_OF_RANGE; whatever ``checkpoint`` raises.
    """
    try:
        forward(steps, values, checkpoint, kernel)
    except StepError as failure:
        error, label = failure.error, program.label(failure.node)
        instruction, operands = program.instructions[failure.node], program.operands(failure.node)
        own = instruction is not None and any(program.per_example[operands[i]] for i in instruction.op.index_operands)
        example = f" of example {start + error.lane}" if own else ""
        raise refuse(
            Reason.INDEX_OUT_OF_RANGE,
            f'node "{label}" (nodes[{failure.node}]): index {error.index} at position '
            f"{shapes.text(error.position)}{example} is out of range for {error.rows} rows",
            f"graph.nodes[{failure.node}]",
            node=label,
            index=error.index,
            rows=error.rows,
        ) from None


class _NotFiniteError(Exception):
    """What a job gives is not finite, and only its plain form can say why."""

    def __init__(self, plain: Job) -> None:
        super().__init__()
        self.plain = plain


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
        shared, lanes = self.plan.shared, self.plan.lanes
        self.values = Stored(
            self.program.per_example, Arena(shared.values, 1, self.dtype), Arena(lanes.values, job.lanes, self.dtype)
        )
        self.adjoints = StoredAdjoints(
            self.program.per_example,
            Arena(shared.adjoints, job.lanes if self.separate else 1, self.dtype),
            Arena(lanes.adjoints, job.lanes, self.dtype),
        )
        self.loss_sum = 0.0
        self.gradient_sum: Array | None = None

    def evaluate(self) -> Evaluation:
        job = self.job
        self._forward_shared()
        self._make_results()
        blocks = 0
        if self.blockwise_loss or any(self.program.per_example[node] for node in job.query.outputs):
            for start in range(0, job.examples, job.lanes):
                self._run_block(start, min(job.lanes, job.examples - start))
                blocks += 1
        if job.examples > 0 and not (self.separate and self.blockwise_loss):
            self._backward_shared()
        return Evaluation(
            loss=self._reduced_loss(),
            gradients=self.gradients,
            outputs=self.outputs,
            non_finite=self.report,
            examples=job.examples,
            blocks=blocks,
        )

    # What examples share, forward.

    def _forward_shared(self) -> None:
        values, stage = self.values, self.plan.shared
        values.given.update(self.program.cast_constants(self.dtype))
        for source in self.program.sources:
            if not source.per_example:
                values.given[source.node] = self.job.query.arrays[source.name][..., np.newaxis]
        arrays = [values[node] for node in self.plan.given]
        if stage.values.places:
            arrays.append(values.shared.open(1))
            self._make_resident(stage, values.shared)
            run_forward(self.program, stage.schedule.forward, values, 0, self.checkpoint, self._forward_once)
        self._check_values(arrays, 0, per_example=False)

    def _make_resident(self, stage: Stage, arena: Arena) -> None:
        for node in stage.resident:
            place = arena.get(node)
            if place is not None:
                place[...] = self.values.given[node]

    # What the kernel does.

    def _forward_once(self, run: Run | TapeRun) -> None:
        values = self.values.shared.storage
        if isinstance(run, TapeRun):
            run.forward(self.values, values, 1)
            return
        walk.forward(run.rows, run.exponents[self.dtype], run.lists, values, values, 1)

    def _backward_once(self, run: Run | TapeRun) -> None:
        values, adjoints = self.values.shared.storage, self.adjoints.shared.storage
        if isinstance(run, TapeRun):
            run.backward(self.adjoints, values, 1)
            return
        exponents = run.exponents[self.dtype]
        walk.backward(run.rows, exponents, run.lists, values, values, adjoints, adjoints, 1, False)

    def _forward_lanes(self, run: Run | TapeRun) -> None:
        values = self.values
        if isinstance(run, TapeRun):
            run.forward(values, values.lanes.storage, values.lanes.lanes)
            return
        exponents = run.exponents[self.dtype]
        walk.forward(run.rows, exponents, run.lists, values.lanes.storage, values.shared.storage, values.lanes.lanes)

    def _backward_lanes(self, run: Run | TapeRun) -> None:
        values, adjoints = self.values, self.adjoints
        if isinstance(run, TapeRun):
            run.backward(adjoints, values.lanes.storage, values.lanes.lanes)
            return
        walk.backward(
            run.rows,
            run.exponents[self.dtype],
            run.lists,
            values.lanes.storage,
            values.shared.storage,
            adjoints.lanes.storage,
            adjoints.shared.storage,
            values.lanes.lanes,
            self.separate,
        )

    def _make_results(self) -> None:
        """Room for what has the axis of examples, and the outputs that have not."""
        job, count = self.job, self.job.examples
        self.losses = np.zeros(count if self.separate else 0, self.dtype)
        self.gradients: dict[str, Array] = {}
        for source in job.wrt:
            leading = (count,) if self.separate or source.per_example else ()
            self.gradients[source.name] = np.zeros(leading + source.shape, self.dtype)
        self.outputs: dict[int, Array] = {}
        for node in job.query.outputs:
            if self.program.per_example[node]:
                dtype = np.dtype(np.int64) if self.program.is_integer(node) else self.dtype
                self.outputs[node] = np.empty((count, *self.program.shapes[node]), dtype)
            else:
                self.outputs[node] = self.values[node][..., 0].copy()

    # One block of examples.

    def _run_block(self, start: int, lanes: int) -> None:
        self.checkpoint()
        computed = self._load_block(start, lanes)
        steps = self.plan.lanes.schedule.forward
        run_forward(self.program, steps, self.values, start, self.checkpoint, self._forward_lanes)
        streamed = [self.values[node] for node in self.plan.streamed]
        self._check_values([computed, *streamed], start, per_example=True)
        stop = start + lanes
        for node, output in self.outputs.items():
            if self.program.per_example[node]:
                output[start:stop] = shapes.lanes_first(self.values[node])
        if not self.blockwise_loss:
            return
        losses = self.values[self.loss]
        if self.separate:
            self.losses[start:stop] = losses
        self.loss_sum += float(np.add.reduce(losses, dtype=np.float64))
        if self.plan.active[self.loss]:
            self._backward_block(start, lanes)

    def _load_block(self, start: int, lanes: int) -> Array:
        """Give the block's values their places, and its inputs their values; gives the storage of all."""
        computed = self.values.lanes.open(lanes)
        for source in self.program.sources:
            if not source.per_example or not self.plan.needed[source.node]:
                continue
            rows = self.job.query.arrays[source.name][start : start + lanes]
            if source.node in self.plan.streamed:
                self.values.given[source.node] = shapes.lanes_last(rows)
            else:
                self.values[source.node][...] = shapes.lanes_last(rows)
        return computed

    def _backward_block(self, start: int, lanes: int) -> None:
        flat = self.adjoints.lanes.open(lanes), self.adjoints.shared.open(lanes if self.separate else 1)
        for node in self.plan.direct:
            gradient = self.gradients[self.program.label(node)]
            self.adjoints.direct[node] = shapes.lanes_last(gradient[start : start + lanes])
        finite = self._pass_back_block(self.plan.lanes.schedule.backward) and all(map(nonfinite.is_finite, flat))
        if not finite:
            # The kernel multiplies and adds in another order, and may leave the range of floats where NumPy does not.
            finite = self._pass_back_block(self.plan.lanes.backward) and all(map(nonfinite.is_finite, flat))
        if not finite:
            self._diagnose_block(start)
        shared_flat = flat[1]
        mean = self.job.query.reduction is Reduction.MEAN
        for source in self.job.wrt:
            adjoint = None if source.node in self.plan.direct else self.adjoints[source.node]
            if adjoint is not None and (self.separate or source.per_example):
                rows = shapes.lanes_first(adjoint)
                self.gradients[source.name][start : start + lanes] = rows / self.job.examples if mean else rows
        if self.separate:
            return
        if self.gradient_sum is None:
            # In float64, so that the error of a float32 request does not grow with the number of blocks.
            alone = lanes == self.job.examples and not self.plan.shared.backward
            self.gradient_sum = shared_flat if alone else shared_flat.astype(np.float64)
        else:
            self.gradient_sum += shared_flat

    def _pass_back_block(self, steps: Sequence[Step]) -> bool:
        """Compute the gradients of a block; whether those are finite that are not in the arenas."""
        self.adjoints.lanes.zero()
        self.adjoints.shared.zero()
        self._seed(1)
        finite = backward(steps, self.values, self.adjoints, self.checkpoint, kernel=self._backward_lanes)
        if self.separate:
            # Their values have one lane, their gradients as many as there are examples: that is NumPy's.
            backward(self.plan.shared.backward, self.values, self.adjoints, self.checkpoint)
        return finite

    def _diagnose_block(self, start: int) -> None:
        self._look_closer()
        if self._value_is_bad():
            return
        plan = self.plan
        shared = sum(self.program.sizes[node] for node in shared_adjoints(plan))
        a_lane = self.dtype.itemsize * (plan.lanes.adjoints.elements + shared)
        at_once = max(1, min(self.job.lanes, BLOCK_BYTES // max(1, a_lane)))
        self._note(bad_step_of_block(self.program, plan, self.values, start, at_once, self.report, self.checkpoint))
        self._note_sums()

    # What examples share, backward.

    def _backward_shared(self) -> None:
        flat = self.adjoints.shared.open(1)
        self._begin_shared(flat)
        finite = nonfinite.is_finite(flat)
        if not finite:
            self._note_sums()
        steps = self.plan.shared.backward
        scheduled = self.plan.shared.schedule.backward
        backward(scheduled, self.values, self.adjoints, self.checkpoint, kernel=self._backward_once)
        if steps and finite and not nonfinite.is_finite(flat):
            # As in a block.
            self._begin_shared(flat)
            backward(steps, self.values, self.adjoints, self.checkpoint)
        for source in self.job.wrt:
            adjoint = self.adjoints[source.node]
            if adjoint is not None and not source.per_example:
                gradient = adjoint[..., 0]
                # np.zeros took no memory yet; a large gradient stays where it was computed.
                self.gradients[source.name] = np.broadcast_to(gradient, self.gradients[source.name].shape)
        if steps and finite and not self._value_is_bad() and not nonfinite.is_finite(flat):
            self._look_closer()
            kept = flat.copy()
            self._begin_shared(flat)
            self._note(bad_step(self.program, steps, self.values, self.adjoints, 0, self.checkpoint))
            flat[...] = kept

    def _begin_shared(self, flat: Array) -> None:
        """The gradients that the shared backward steps begin with."""
        reduction, count = self.job.query.reduction, self.job.examples
        if self.gradient_sum is None:
            flat.fill(0)
        else:
            divisor = count if reduction is Reduction.MEAN else 1
            np.divide(self.gradient_sum, divisor, out=flat, casting="same_kind")
        if not self.blockwise_loss:
            self._seed(count if reduction is Reduction.SUM else 1)

    def _reduced_loss(self) -> Array:
        reduction, count = self.job.query.reduction, self.job.examples
        if self.separate:
            if not self.blockwise_loss:
                self.losses[...] = self.values[self.loss][..., 0]
            return self.losses
        if self.blockwise_loss:
            total = self.loss_sum / count if reduction is Reduction.MEAN else self.loss_sum
            loss = np.asarray(total).astype(self.dtype)
        else:
            loss = self.values[self.loss][..., 0].copy()
            if reduction is Reduction.SUM and self.program.batched:
                loss = np.multiply(loss, count, dtype=self.dtype) if count else np.zeros_like(loss)
        if not nonfinite.is_finite(loss):
            self._note(nonfinite.report(self.program, Phase.REDUCTION, self.loss, loss[..., np.newaxis], ((), 0)))
        return np.asarray(loss)

    # Small parts.

    def _seed(self, gradient: int) -> None:
        """Begin the backward steps: the gradient of the loss in itself."""
        adjoint = self.adjoints[self.loss]
        if adjoint is not None:
            np.add(adjoint, gradient, out=adjoint)

    def _look_closer(self) -> None:
        """Go on only if this job can say what is not finite."""
        if self.job.plain is not None:
            raise _NotFiniteError(self.job.plain)

    def _note(self, report: NonFinite | None) -> None:
        self._look_closer()
        self.report = nonfinite.first(self.report, report)

    def _value_is_bad(self) -> bool:
        """Whether a value is reported, which goes before every gradient."""
        return self.report is not None and self.report.phase is Phase.VALUE

    def _check_values(self, arrays: Sequence[Array], start: int, *, per_example: bool) -> None:
        """Look at the arrays; only if one is not finite, find out which node that was."""
        if all(map(nonfinite.is_finite, arrays)):
            return
        self._look_closer()
        needed, depends = self.plan.needed, self.program.per_example
        nodes = [i for i, flag in enumerate(needed) if flag and depends[i] == per_example]
        self._note(nonfinite.bad_value(self.program, nodes, self.values, start))

    def _note_sums(self) -> None:
        """Report the last shared node whose gradient, summed over examples, is not finite."""
        for node in shared_adjoints(self.plan):
            adjoint = self.adjoints[node]
            found = None if adjoint is None else nonfinite.first_bad(adjoint)
            if adjoint is not None and found is not None:
                self._note(nonfinite.report(self.program, Phase.REDUCTION, node, adjoint, found))
                return
