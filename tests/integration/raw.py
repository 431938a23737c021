"""Calls of bytes, as a client in any language makes them, well-behaved or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import Message
from google.rpc import error_details_pb2
from google.rpc.status_pb2 import Status

from gradwire.v1 import gradient_service_pb2_grpc
from tests.integration.server_process import DEADLINE

SERVICE = "gradwire.v1.GradientService"
LARGE = [("grpc.max_send_message_length", 1 << 30), ("grpc.max_receive_message_length", 1 << 30)]


@dataclass(frozen=True, slots=True)
class Refused:
    """What a call that failed was told."""

    code: grpc.StatusCode
    message: str
    reason: str
    metadata: dict[str, str]
    paths: list[str]
    retry: bool
    nbytes: int
    """Of the details."""


@contextmanager
def channel(address: str) -> Iterator[grpc.Channel]:
    """A channel without the SDK's settings, that sends and takes large messages."""
    with grpc.insecure_channel(address, LARGE) as opened:
        yield opened


def stub(opened: grpc.Channel) -> gradient_service_pb2_grpc.GradientServiceStub:
    """The generated stub."""
    return gradient_service_pb2_grpc.GradientServiceStub(opened)


def send(
    opened: grpc.Channel,
    method: str,
    request: bytes | Message,
    *,
    service: str = SERVICE,
    compression: grpc.Compression | None = None,
    timeout: float = DEADLINE,
) -> bytes | Refused:
    """Call a method with bytes or a message."""
    raw = request.SerializeToString() if isinstance(request, Message) else request
    call: Any = opened.unary_unary(f"/{service}/{method}")
    try:
        reply: bytes = call(raw, timeout=timeout, compression=compression)
    except grpc.RpcError as error:
        return refused(error)
    return reply


def refused(error: grpc.RpcError) -> Refused:
    """What an error of gRPC says."""
    details = b""
    trailers: Any = error.trailing_metadata()
    for key, value in trailers or ():
        if key == "grpc-status-details-bin":
            details = value
    status = Status.FromString(details)
    info, bad, retry = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest(), error_details_pb2.RetryInfo()
    unpacked = [detail.Unpack(kind) for detail in status.details for kind in (info, bad, retry)]
    assert len(unpacked) == 3 * len(status.details)
    return Refused(
        code=error.code(),
        message=error.details() or "",
        reason=info.reason,
        metadata=dict(info.metadata),
        paths=[violation.field for violation in bad.field_violations],
        retry=retry.retry_delay.nanos > 0 or retry.retry_delay.seconds > 0,
        nbytes=len(details),
    )
