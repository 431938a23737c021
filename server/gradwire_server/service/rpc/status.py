"""Refusals as gRPC statuses with google.rpc details."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn
from urllib.parse import quote

import grpc
from google.protobuf.duration_pb2 import Duration
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server.errors import Finding, Reason, Refusal

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
else:
    Context = grpc.aio.ServicerContext

DOMAIN = "gradwire"

RETRY_SECONDS = 0.5
"""Seconds after which a caller that was turned away may try again."""

MAX_STATUS_BYTES = 3800
"""Bytes of a status with its details; gRPC drops the status altogether where the trailers exceed 8 KiB."""

MAX_MESSAGE_BYTES = 1500
"""Bytes of the message as it travels, with every byte outside ASCII as three."""

MAX_TEXT = 200
"""Characters of a value in the metadata, and of a path in the log."""

CODES = {
    Reason.MALFORMED_MESSAGE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.GRAPH_MISSING: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_GRAPH: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_TENSOR: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_REQUEST: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INDEX_OUT_OF_RANGE: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.INVALID_FRAME: grpc.StatusCode.INVALID_ARGUMENT,
    Reason.GRAPH_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
    Reason.NON_FINITE: grpc.StatusCode.FAILED_PRECONDITION,
    Reason.LIMIT_EXCEEDED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.OVERLOADED: grpc.StatusCode.RESOURCE_EXHAUSTED,
    Reason.DEADLINE_EXCEEDED: grpc.StatusCode.DEADLINE_EXCEEDED,
    Reason.CANCELLED: grpc.StatusCode.CANCELLED,
    Reason.SHUTTING_DOWN: grpc.StatusCode.UNAVAILABLE,
    Reason.INTERNAL: grpc.StatusCode.INTERNAL,
    Reason.UNAUTHENTICATED: grpc.StatusCode.UNAUTHENTICATED,
    Reason.EXAMPLES_NOT_FOUND: grpc.StatusCode.NOT_FOUND,
}

_RETRYABLE = frozenset({Reason.OVERLOADED, Reason.SHUTTING_DOWN})


def to_status(refusal: Refusal) -> Status:
    """The status of a refusal, cut to what travels safely; the metadata counts the findings left out."""
    first = refusal.findings[0]
    status = Status(code=CODES[refusal.reason].value[0], message=_cut(refusal.message))
    metadata = {key: value[:MAX_TEXT] for key, value in first.metadata.items()}
    violations = error_details_pb2.BadRequest()
    room = MAX_STATUS_BYTES - status.ByteSize() - _error_info(refusal, metadata, 0).ByteSize() - 200
    for finding in refusal.findings:
        violation = _violation(finding)
        room -= violation.ByteSize() + 4
        if not finding.path or room < 0:
            break
        violations.field_violations.append(violation)
    left_out = refusal.total - max(1, len(violations.field_violations))
    _add(status, _error_info(refusal, metadata, left_out))
    if violations.field_violations:
        _add(status, violations)
    if refusal.reason in _RETRYABLE:
        _add(status, error_details_pb2.RetryInfo(retry_delay=Duration(nanos=int(RETRY_SECONDS * 1e9))))
    return status


def _add(status: Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def _error_info(refusal: Refusal, metadata: dict[str, str], left_out: int) -> error_details_pb2.ErrorInfo:
    counted = metadata | ({"findings": str(refusal.total)} if refusal.total > 1 else {})
    counted |= {"left_out": str(left_out)} if left_out else {}
    return error_details_pb2.ErrorInfo(reason=refusal.reason, domain=DOMAIN, metadata=counted)


def _violation(finding: Finding) -> error_details_pb2.BadRequest.FieldViolation:
    return error_details_pb2.BadRequest.FieldViolation(
        field=finding.path, description=_cut(finding.message), reason=finding.reason
    )


def _cut(message: str) -> str:
    while len(quote(message, safe=" !\"#$&'()*+,/:;<=>?@[\\]^`{|}")) > MAX_MESSAGE_BYTES:
        message = message[: len(message) * 3 // 4] + "..."
    return message


class Packed(NamedTuple):
    """A refusal as gRPC sends it."""

    code: grpc.StatusCode
    message: str
    details: bytes


def pack(refusal: Refusal) -> Packed:
    """A refusal as gRPC sends it."""
    status = to_status(refusal)
    return Packed(CODES[refusal.reason], status.message, status.SerializeToString())


async def abort(context: Context, refusal: Refusal | Packed) -> NoReturn:
    """End the call with the refusal's status."""
    code, message, details = pack(refusal) if isinstance(refusal, Refusal) else refusal
    await context.abort(code, message, (*(context.trailing_metadata() or ()), ("grpc-status-details-bin", details)))


def error_frame(tag: int, refusal: Refusal) -> pb.StreamGradientsResponse:
    """The refusal of one request on a stream."""
    status = to_status(refusal)
    error = pb.RequestError(code=status.code, message=status.message, details=status.details)
    return pb.StreamGradientsResponse(tag=tag, error=error)


def told(refusal: Refusal) -> dict[str, str]:
    """What the log says of a refusal: no text of it, which may show values."""
    first = refusal.findings[0]
    setting = {key: value for key, value in first.metadata.items() if key == "setting"}
    return {"reason": first.reason.value, "path": first.path[:MAX_TEXT], **setting}
