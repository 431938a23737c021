"""Every error of the SDK. Nothing else escapes for bad input or a failed call, embedded or remote.

    GradwireError
    ├── InvalidGraphError       the graph breaks a rule
    │   └── ValueNeededError    Python asks for the value of an expression, which it has only when it is evaluated
    ├── InvalidRequestError     arrays or options do not fit the graph
    ├── ExamplesNotFoundError   the server does not hold the examples, also not after uploading them again
    ├── GraphNotFoundError      the server does not hold the graph, also not after registering it again
    ├── NonFiniteError          a value or gradient is not finite, and the call rejects that
    ├── LimitExceededError      larger than a limit; the metadata names limit and setting
    ├── OverloadedError         the server is busy; try again after ``retry_after`` seconds
    ├── DeadlineExceededError   the call took longer than its timeout
    ├── CancelledError          the call was given up
    ├── UnavailableError        no server answers, or it is shutting down
    │   └── TLSError            client and server do not agree on encryption, or one does not trust the other
    ├── AuthenticationError     the server does not accept the token
    ├── UnimplementedError      the server does not speak this contract
    ├── ServerError             a fault of the server; its log has the details
    └── UsageError              a client or stream used wrongly, such as after it was closed

Texts may change; classes and reasons do not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from google.protobuf.message import DecodeError, Message
from google.rpc import code_pb2, error_details_pb2
from google.rpc.status_pb2 import Status

from gradwire.v1 import graph_pb2

E = TypeVar("E", bound="GradwireError")
M = TypeVar("M", bound=Message)

DOMAIN = "gradwire"

_TENSOR = re.compile(r'tensors\["(.*?)"\]')
_NODE = re.compile(r"graph\.nodes\[(\d+)\]")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong with a request."""

    path: str
    """Where in the request, such as ``graph.nodes[17].mul.operands[1]`` or ``tensors["w"]``."""
    message: str
    """What was found there, what was expected, what to do."""


class GradwireError(Exception):
    """Base of every error of the SDK."""

    def __init__(
        self,
        message: str,
        *,
        reason: str | None = None,
        node: str | None = None,
        metadata: Mapping[str, str] | None = None,
        findings: Sequence[Finding] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.reason = reason
        """Stable reason, a name of the contract's ErrorReason such as ``"INVALID_TENSOR"``, if a server gave one."""
        self.node = node
        """Name of the node or tensor that is wrong, if it is one."""
        self.metadata = dict(metadata or {})
        """The facts of the message, such as ``{"limit": "1000", "found": "1001", "setting": "max_nodes"}``."""
        self.findings = tuple(findings)
        """All that is wrong, where there are several things (the first ones, if very many)."""
        self.retry_after = retry_after
        """Seconds after which trying again makes sense, if the server said so."""
        self.request_id: str | None = None
        """Id of the call, by which the server's log has it; None if none was made."""


class InvalidGraphError(GradwireError):
    """The graph breaks a rule: shapes that do not fit, names used twice, a loss that is no scalar."""


class ValueNeededError(InvalidGraphError, TypeError):
    """Python asks for the value of an expression, as ``if x > 0`` does; the message says what to write instead."""


class InvalidRequestError(GradwireError):
    """Arrays or options do not fit the graph: names, shapes, dtypes, numbers of examples, indices."""


class GraphNotFoundError(GradwireError):
    """The server does not hold the graph. Clients register it again by themselves, so this is rare."""


class ExamplesNotFoundError(GradwireError):
    """The server does not hold the examples. Clients upload them again by themselves, so this is rare."""


class NonFiniteError(GradwireError):
    """A value or gradient is infinite or NaN, and the call was made with ``reject_non_finite``."""


class LimitExceededError(GradwireError):
    """A message, graph, result or computation is larger than a limit. Trying again does not help."""


class OverloadedError(GradwireError):
    """The server is busy; ``retry_after`` says when to try again."""


class DeadlineExceededError(GradwireError):
    """The timeout passed before the result was there."""


class CancelledError(GradwireError):
    """The call was given up, such as by closing its client."""


class UnavailableError(GradwireError):
    """No server answers at the target, or it is shutting down."""


class TLSError(UnavailableError):
    """The connection fails in its encryption: certificates that are not trusted or have expired, or plaintext."""


class AuthenticationError(GradwireError):
    """The server does not accept who calls."""


class UnimplementedError(GradwireError):
    """The server does not speak this version of the contract, or not this part of it."""


class ServerError(GradwireError):
    """A fault of the server; its log has the details, under the id in the metadata."""


class UsageError(GradwireError):
    """A client or stream used wrongly: closed already, or with arguments that make no sense."""


def lacking(error: ModuleNotFoundError, extra: str) -> ModuleNotFoundError:
    """What to raise where a library is not there that an extra of the package brings."""
    return ModuleNotFoundError(f"there is no {error.name}: pip install 'gradwire[{extra}]'", name=error.name)


BY_REASON: Mapping[str, type[GradwireError]] = {
    "MALFORMED_MESSAGE": InvalidRequestError,
    "GRAPH_MISSING": InvalidRequestError,
    "INVALID_GRAPH": InvalidGraphError,
    "INVALID_TENSOR": InvalidRequestError,
    "INVALID_REQUEST": InvalidRequestError,
    "INDEX_OUT_OF_RANGE": InvalidRequestError,
    "INVALID_FRAME": InvalidRequestError,
    "GRAPH_NOT_FOUND": GraphNotFoundError,
    "NON_FINITE": NonFiniteError,
    "LIMIT_EXCEEDED": LimitExceededError,
    "OVERLOADED": OverloadedError,
    "DEADLINE_EXCEEDED": DeadlineExceededError,
    "CANCELLED": CancelledError,
    "SHUTTING_DOWN": UnavailableError,
    "INTERNAL": ServerError,
    "UNAUTHENTICATED": AuthenticationError,
    "EXAMPLES_NOT_FOUND": ExamplesNotFoundError,
}
"""The class for each reason of the contract."""

BY_CODE: Mapping[int, type[GradwireError]] = {
    code_pb2.INVALID_ARGUMENT: InvalidRequestError,
    code_pb2.NOT_FOUND: InvalidRequestError,
    code_pb2.FAILED_PRECONDITION: InvalidRequestError,
    code_pb2.RESOURCE_EXHAUSTED: LimitExceededError,
    code_pb2.DEADLINE_EXCEEDED: DeadlineExceededError,
    code_pb2.CANCELLED: CancelledError,
    code_pb2.UNAVAILABLE: UnavailableError,
    code_pb2.UNAUTHENTICATED: AuthenticationError,
    code_pb2.PERMISSION_DENIED: AuthenticationError,
    code_pb2.UNIMPLEMENTED: UnimplementedError,
}
"""The class for a status that carries no reason, as from gRPC itself or a proxy; of others ServerError."""


def of_call(error: E, request_id: str | None) -> E:
    """Give an error the id of its call; a traceback shows it."""
    if request_id is not None:
        error.request_id = request_id
        error.add_note(f"request id {request_id}")
    return error


def from_status(status: Status, graph: graph_pb2.Graph | None = None) -> GradwireError:
    """The error that a status of the service says, or of whoever else stands for it.

    Args:
        status: Canonical code, message and details.
        graph: The graph that was sent, if one was: it gives the names of nodes.
    """
    info = _detail(status, error_details_pb2.ErrorInfo()) or error_details_pb2.ErrorInfo()
    bad = _detail(status, error_details_pb2.BadRequest()) or error_details_pb2.BadRequest()
    retry = _detail(status, error_details_pb2.RetryInfo())
    reason = info.reason if info.domain == DOMAIN else ""
    by_code = BY_CODE.get(status.code, ServerError)
    findings = [Finding(violation.field, violation.description) for violation in bad.field_violations]
    return BY_REASON.get(reason, by_code)(
        status.message,
        reason=reason or None,
        node=info.metadata.get("node") or _node(findings, graph),
        metadata=info.metadata,
        findings=findings,
        retry_after=None if retry is None else retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9,
    )


def _detail(status: Status, into: M) -> M | None:
    """The detail of this type; None if there is none, as where a proxy changed it."""
    try:
        return into if any(detail.Unpack(into) for detail in status.details) else None
    except DecodeError:
        return None


def _node(findings: Sequence[Finding], graph: graph_pb2.Graph | None) -> str | None:
    """Name of the node or tensor that the first finding is about."""
    path = findings[0].path if findings else ""
    if tensor := _TENSOR.match(path):
        return tensor[1]
    found = _NODE.match(path)
    if found is None or graph is None:
        return None
    index = int(found[1])
    if index >= len(graph.nodes):
        return None
    node = graph.nodes[index]
    return node.name or f"{node.WhichOneof('kind')}_{index}"
