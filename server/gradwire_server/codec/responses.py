"""Results of the engine -> responses of the wire."""

from __future__ import annotations

from collections.abc import Sequence

from google.protobuf.duration_pb2 import Duration

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire_server.codec.tensors import dtype_number, encode_tensor
from gradwire_server.engine import Evaluation, NonFinite, Phase, Program, Source, SourceCheck, Trace

_PHASES = {
    Phase.VALUE: pb.NonFinite.PHASE_VALUE,
    Phase.GRADIENT: pb.NonFinite.PHASE_GRADIENT,
    Phase.REDUCTION: pb.NonFinite.PHASE_REDUCTION,
}


def encode_signature(program: Program) -> pb.Signature:
    """What requests for this program supply."""
    return pb.Signature(sources=map(_source, program.sources))


def _source(source: Source) -> pb.Source:
    return pb.Source(
        name=source.name,
        parameter=source.parameter,
        shape=source.shape,
        per_example=source.per_example,
        dtype=tensor_pb2.DTYPE_INT64 if source.integer else tensor_pb2.DTYPE_UNSPECIFIED,
        unused=source.unused,
    )


def encode_evaluation(
    evaluation: Evaluation, seconds: float, framed: Sequence[str] = ()
) -> tuple[pb.ComputeGradientsResponse, list[pb.FramedTensor]]:
    """The response, without the gradients that follow in frames, and what announces those."""
    response = pb.ComputeGradientsResponse(
        loss=encode_tensor(evaluation.loss),
        gradients={name: encode_tensor(g) for name, g in evaluation.gradients.items() if name not in framed},
        outputs={node: encode_tensor(value) for node, value in evaluation.outputs.items()},
        non_finite=_non_finite(evaluation.non_finite),
        stats=pb.ComputeStats(
            compute_time=Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9)),
            examples=evaluation.examples,
            blocks=evaluation.blocks,
        ),
    )
    announced = [
        pb.FramedTensor(name=name, dtype=dtype_number(gradient.dtype), shape=gradient.shape)
        for name, gradient in evaluation.gradients.items()
        if name in framed
    ]
    return response, announced


def _non_finite(report: NonFinite | None) -> pb.NonFinite | None:
    if report is None:
        return None
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


def encode_trace(trace: Trace) -> pb.TraceGraphResponse:
    """Every node's value and every edge's gradient."""
    return pb.TraceGraphResponse(
        nodes=[
            pb.NodeTrace(
                name=node.name,
                op=node.op,
                value=encode_tensor(node.value),
                gradient=None if node.gradient is None else encode_tensor(node.gradient),
                operands=[
                    pb.EdgeTrace(
                        node=edge.node, gradient=None if edge.gradient is None else encode_tensor(edge.gradient)
                    )
                    for edge in node.operands
                ],
            )
            for node in trace.nodes
        ],
        non_finite=_non_finite(trace.non_finite),
    )


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
            )
            for check in checks
        ],
        passed=all(check.passed for check in checks),
    )
