"""What gRPC's errors mean, in words of the SDK."""

from __future__ import annotations

import re
from typing import Any, cast

import grpc
from google.protobuf.message import DecodeError
from google.rpc.status_pb2 import Status

from gradwire._calls.steps import Compute, Step, Unary
from gradwire._errors import (
    CancelledError,
    DeadlineExceededError,
    ExamplesNotFoundError,
    GradwireError,
    GraphNotFoundError,
    LimitExceededError,
    TLSError,
    UnavailableError,
    UnimplementedError,
    from_status,
    of_call,
)
from gradwire._transports.address import REQUEST_ID, Address
from gradwire._transports.channel import SERVICE
from gradwire._transports.proxies import told
from gradwire.v1 import graph_pb2

_STATUS_KEY = "grpc-status-details-bin"
_BROKE_OFF = re.compile(r"^(Socket closed|Stream removed)")
"""How gRPC says that a connection, which stood, is gone."""
_BROKE_AT_ONCE = "Internal error from Core"
"""How ``grpc.aio`` says, as INTERNAL, that a connection broke or a deadline passed while the call began."""
_RESET = "RST_STREAM with error code 2"
"""How gRPC says, as INTERNAL, that a proxy gave up a call in the middle, such as when the server behind it died."""
_CAUSES = {
    "WRONG_VERSION_NUMBER": "it does not speak TLS; connect without tls=True",
    "certificate has expired": "the certificate of the server has expired",
    "certificate is not yet valid": "the certificate of the server is not valid yet, or the clock here is wrong",
    "Hostname Verification Check failed": "the certificate of the server is for another name than that of the target",
    "CERTIFICATE_VERIFY_FAILED": "the certificate of the server is of no authority that this client trusts (ca=)",
    "Failed to create security handshaker": "ca=, certificate= and key= hold no certificates and key in PEM that fit "
    "each other",
    "andshake failed": "the two do not agree on encryption",
}
"""What is meant by words of gRPC and of its TLS library; the first that is found counts."""
_NOT_SERVED = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED})
"""CANCELLED not by the caller, who would not ask what it means: a server that ends drops the calls so that it has not
begun."""
_TOO_LARGE = re.compile(r"(Sent|Received) message larger than max \((\d+) vs\. (\d+)\)")


def error_of(error: grpc.RpcError, to: Address, request_id: str, step: Step | None = None) -> GradwireError:
    """The error that a failed call means. ``grpc.aio``'s errors have the same methods.

    Args:
        error: As gRPC raised it.
        to: Where the call went.
        request_id: Id of the call.
        step: What was sent, unless it was a stream of many.
    """
    graph: graph_pb2.Graph | None = getattr(step.request, "graph", None) if isinstance(step, Unary) else None
    not_found = _not_found(step) if isinstance(step, Compute) else None
    # The stubs know neither of the two metadata classes of gRPC.
    trailers: dict[str, Any] = dict(cast("Any", error.trailing_metadata()) or ())
    status = _status(trailers.get(_STATUS_KEY))
    meant = _meant(error, to) if status is None else from_status(status, graph)
    if not_found is not None and error.code() is grpc.StatusCode.NOT_FOUND and meant.reason is None:
        # A proxy may have dropped the details, of which the reason is one.
        meant = not_found(str(meant))
    # A proxy may have given it another id.
    return of_call(meant, trailers.get(REQUEST_ID, request_id))


def _not_found(step: Compute) -> type[GradwireError] | None:
    """The error where a server does not hold what a step names by an id: a graph, or else examples."""
    if step.by_id:
        return GraphNotFoundError
    return ExamplesNotFoundError if step.examples_id else None


def _status(details: bytes | None) -> Status | None:
    """The status that a server said; None if there is none, as where a proxy dropped or changed it."""
    try:
        return None if details is None else Status.FromString(details)
    except DecodeError:
        return None


def _meant(error: grpc.RpcError, to: Address) -> GradwireError:
    """The error of a call that no server has said anything about."""
    code, details, target = error.code(), error.details() or "", to.target
    too_large = _TOO_LARGE.search(details)
    if too_large:
        return _too_large(too_large, details, target)
    if code in _NOT_SERVED or details == _BROKE_AT_ONCE or _RESET in details:
        cause = _tls_cause(details, to)
        if cause is not None:
            return TLSError(f"no connection to {target}: {cause}; gRPC says: {details}{told(to)}")
        return UnavailableError(f"no server answers at {target}: {details}; {_advice(details, to)}{told(to)}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return UnimplementedError(f"the server at {target} does not speak {SERVICE.full_name}: {details}")
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return too_slow(details, to)
    return from_status(Status(code=code.value[0], message=f"{target}: {details}"))


def too_slow(details: str, to: Address) -> DeadlineExceededError:
    """The error of a call that nobody answered within its timeout."""
    return DeadlineExceededError(
        f"{to.target} did not answer within the timeout of the call; give it more time, or see whether the server is "
        f"busy or hangs; gRPC says: {details}{told(to)}"
    )


def _tls_cause(details: str, to: Address) -> str | None:
    """Why encryption fails, in words of the options; None if it does not."""
    for words, cause in _CAUSES.items():
        if words in details:
            return cause
    if to.tls and _closed_at_once(details):
        # A server that refuses a certificate hangs up without a word.
        if to.certificate is None:
            return "the server hung up on a client without a certificate; connect with certificate= and key="
        return (
            f"the server hung up on the certificate in {to.certificate}: has it expired, or is it of another "
            "authority than the server takes?"
        )
    return None


def _closed_at_once(details: str) -> bool:
    return "Socket closed" in details and not _BROKE_OFF.search(details)


def _advice(details: str, to: Address) -> str:
    if not to.tls and _closed_at_once(details):
        return "if it speaks TLS, connect with tls=True; otherwise it may have all the connections that it takes"
    return "does `gradwire serve` run there?"


def _too_large(found: re.Match[str], details: str, target: str) -> LimitExceededError:
    sent, size, limit = found[1] == "Sent", found[2], found[3]
    # gRPC names the side; what a client sends or takes itself is over its own limit.
    server = details.startswith("SERVER") or (not details.startswith("CLIENT") and not sent)
    side, setting = ("server", "--max-message-bytes") if server else ("client", "client.stream")
    advice = "raise --max-message-bytes there" if server else "ask for less, or use client.stream"
    what = "request" if sent != server else "response"
    return LimitExceededError(
        f"a {what} of {size} bytes is larger than the {side} of {target} takes, {limit}; {advice}",
        metadata={"found": size, "limit": limit, "side": side, "setting": setting},
    )


def closed() -> CancelledError:
    """The error of a call that its client's end cut off."""
    return CancelledError("the client was closed while the call was under way")
