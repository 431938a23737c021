"""Results of the engine -> responses of the wire."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire.v1.elements import Key
from gradwire_server.codec.tensors import Array, dtype_number, put_tensor
from gradwire_server.engine import (
    Checkpoint,
    Evaluation,
    NonFinite,
    Phase,
    Program,
    Source,
    SourceCheck,
    Trace,
    checked,
)

_PHASES = {
    Phase.VALUE: pb.NonFinite.PHASE_VALUE,
    Phase.GRADIENT: pb.NonFinite.PHASE_GRADIENT,
    Phase.REDUCTION: pb.NonFinite.PHASE_REDUCTION,
}


def encode_signature(program: Program, checkpoint: Checkpoint) -> pb.Signature:
    """What requests for this program supply; raises what ``checkpoint`` raises."""
    return pb.Signature(sources=map(_source, checked(program.sources, checkpoint)))


def _source(source: Source) -> pb.Source:
    return pb.Source(
        name=source.name,
        parameter=source.parameter,
        shape=source.shape,
        per_example=source.per_example,
        dtype=tensor_pb2.DTYPE_INT64 if source.integer else tensor_pb2.DTYPE_UNSPECIFIED,
        unused=source.unused,
    )


def parts_of(evaluation: Evaluation) -> Iterator[tuple[Key, Array]]:
    """Every tensor of a response."""
    yield None, evaluation.loss
    yield from evaluation.outputs.items()
    yield from evaluation.gradients.items()


def encode_evaluation(
    evaluation: Evaluation, seconds: float, checkpoint: Checkpoint, framed: Collection[Key] = ()
) -> tuple[pb.ComputeGradientsResponse, list[pb.FramedTensor]]:
    """The response, without the tensors that follow in frames, and what announces those, in the order of parts.

    Raises what ``checkpoint`` raises.
    """
    left_out = frozenset(framed)
    response = pb.ComputeGradientsResponse()
    if None not in left_out:
        put_tensor(evaluation.loss, response.loss)
    for name, gradient in checked(evaluation.gradients.items(), checkpoint):
        if name not in left_out:
            put_tensor(gradient, response.gradients[name])
    for node, value in checked(evaluation.outputs.items(), checkpoint):
        if node not in left_out:
            put_tensor(value, response.outputs[node])
    if evaluation.non_finite is not None:
        response.non_finite.CopyFrom(_non_finite(evaluation.non_finite))
    put_stats(response.stats, evaluation, seconds)
    return response, [_announced(part, array) for part, array in parts_of(evaluation) if part in left_out]


def put_stats(stats: pb.ComputeStats, evaluation: Evaluation, seconds: float) -> None:
    """Say what an evaluation took."""
    stats.compute_time.seconds, stats.compute_time.nanos = int(seconds), int(seconds % 1 * 1e9)
    stats.examples, stats.blocks = evaluation.examples, evaluation.blocks


def _announced(part: Key, array: Array) -> pb.FramedTensor:
    tensor = pb.FramedTensor(dtype=dtype_number(array.dtype), shape=array.shape)
    if part is None:
        tensor.loss = True
    elif isinstance(part, int):
        tensor.output = part
    else:
        tensor.name = part
    return tensor


def _non_finite(report: NonFinite) -> pb.NonFinite:
    return pb.NonFinite(
        phase=_PHASES[report.phase],
        node=report.node,
        name=report.name,
        example=report.example,
        position=report.position,
        value=report.value,
        operands=[
            pb.OperandValue(node=operand.node, name=operand.name, value=operand.value) for operand in report.operands
        ],
    )


def encode_trace(trace: Trace, checkpoint: Checkpoint) -> pb.TraceGraphResponse:
    """Every node's value and every edge's gradient; raises what ``checkpoint`` raises."""
    response = pb.TraceGraphResponse()
    for node in checked(trace.nodes, checkpoint):
        # In its place at once: messages of their own would take a few times the memory.
        told = response.nodes.add(name=node.name, op=node.op)
        put_tensor(node.value, told.value)
        if node.gradient is not None:
            put_tensor(node.gradient, told.gradient)
        for edge in checked(node.operands, checkpoint):
            along = told.operands.add(node=edge.node)
            if edge.gradient is not None:
                put_tensor(edge.gradient, along.gradient)
    if trace.non_finite is not None:
        response.non_finite.CopyFrom(_non_finite(trace.non_finite))
    return response


def encode_checks(checks: Sequence[SourceCheck]) -> pb.CheckGradientsResponse:
    """How well each source agrees with finite differences."""
    return pb.CheckGradientsResponse(
        sources=[
            pb.SourceCheck(
                name=check.name,
                passed=check.passed,
                probed=check.probed,
                failed=check.failed,
                worst_position=check.worst_position,
                analytic=check.analytic,
                numeric=check.numeric,
                relative_error=check.relative_error,
                step_too_large=check.step_too_large,
            )
            for check in checks
        ],
        passed=all(check.passed for check in checks),
    )
