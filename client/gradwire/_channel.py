"""How to reach a server: target, options of the channel, credentials; and what gRPC's own errors mean."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from random import uniform
from time import monotonic
from typing import Any, TypedDict, cast
from uuid import uuid4

import grpc
from google.rpc.status_pb2 import Status

from gradwire._errors import (
    CancelledError,
    DeadlineExceededError,
    GradwireError,
    GraphNotFoundError,
    LimitExceededError,
    OverloadedError,
    TLSError,
    UnavailableError,
    UnimplementedError,
    UsageError,
    from_status,
    of_call,
)
from gradwire._numbers import whole
from gradwire._token import Token, token_source
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2

LOCAL = "local"
"""The target that is no server, but the engine in this process."""

SERVICE = pb.DESCRIPTOR.services_by_name["GradientService"]

MAX_MESSAGE_BYTES = 132 << 20
"""Largest message that a client sends or takes; what is larger travels in frames."""

STREAM_METHOD = f"/{SERVICE.full_name}/StreamGradients"
"""Called with frames as bytes; see ``gradwire.v1.chunks``."""

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.3, 10.0, 3.0
"""Seconds between two attempts: the first pause, the longest, and how many times as long as the last the next one is.
Those of five attempts make about twelve seconds: a container that is restarted is back by then."""

JITTER = 0.2
"""Share by which a pause is longer or shorter by chance, as in gRPC's own retries."""

_STATUS_KEY = "grpc-status-details-bin"
_REQUEST_ID = "x-request-id"
_HAS_PORT = re.compile(r":\d+$")
_PORTS = re.compile(r":0*(\d+)(?=,|$)")
"""Ports in a target, which with a scheme may be several addresses."""
_SOCKETS = ("unix:", "unix-abstract:")
_WITHOUT_PORTS = (*_SOCKETS, "xds:")
_SCHEMES = ("dns:", "ipv4:", "ipv6:", *_WITHOUT_PORTS)
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


@dataclass(frozen=True, slots=True)
class Address:
    """A server and how to speak to it."""

    target: str
    tls: bool
    ca: Path | None
    certificate: Path | None
    key: Path | None
    server_name: str | None
    token: Callable[[], str] | None
    max_attempts: int

    def metadata(self, request_id: str) -> tuple[tuple[str, str], ...]:
        """What goes with a call that begins now.

        Raises:
            UsageError: There is no token to be had.
        """
        own = ((_REQUEST_ID, request_id),)
        return own if self.token is None else (*own, ("authorization", f"Bearer {self.token()}"))


class Connection(TypedDict, total=False):
    """How to connect to a server."""

    tls: bool
    """Whether to encrypt, and check the server's certificate."""
    ca: str | Path | None
    """File of the certificates to trust (PEM). Default: gRPC's own."""
    certificate: str | Path | None
    """File of this client's certificate (PEM), for servers that ask for one."""
    key: str | Path | None
    """File of the key to it (PEM)."""
    server_name: str | None
    """Name that the server's certificate is for, where it is not that of the target, as through a tunnel."""
    token: Token | None
    """Bearer token to send with every call: a string, the ``Path`` of a file that holds it, or a function that returns
    it; file and function are asked at each call. Needs ``tls``, except on this machine."""
    max_attempts: int
    """How often to try a call that no server answers, or that a busy one turns away, 1 to 5 (default), with growing
    pauses of about twelve seconds together."""


def address(
    target: str,
    *,
    tls: bool = False,
    ca: str | Path | None = None,
    certificate: str | Path | None = None,
    key: str | Path | None = None,
    server_name: str | None = None,
    token: Token | None = None,
    max_attempts: int = 5,
) -> Address:
    """Checked arguments of ``connect``.

    Raises:
        UsageError: They make no sense.
    """
    _check_target(target)
    if not isinstance(tls, bool):
        raise UsageError(f"tls={tls!r:.64} is neither True nor False")
    if (certificate is None) != (key is None):
        raise UsageError("certificate= and key= come together: give both or none")
    if not (ca is None and certificate is None and server_name is None) and not tls:
        raise UsageError("ca=, certificate=, key= and server_name= need tls=True")
    named: object = server_name
    if named is not None and not (isinstance(named, str) and named and named.isprintable()):
        raise UsageError(f"server_name={server_name!r:.64} is no name of a server")
    source = None if token is None else token_source(token)
    if token is not None and not tls and not _is_loopback(target):
        raise UsageError("a token would travel in the clear; use tls=True, or a server on this machine")
    attempts = whole(max_attempts)
    if attempts is None or not 1 <= attempts <= 5:  # gRPC's own bound
        raise UsageError(f"max_attempts={max_attempts!r:.64}: expected an integer from 1, for no retry, to 5")
    return Address(
        target=target,
        tls=tls,
        ca=_path("ca", ca),
        certificate=_path("certificate", certificate),
        key=_path("key", key),
        server_name=server_name,
        token=source,
        max_attempts=attempts,
    )


def _check_target(target: str) -> None:
    if not isinstance(target, str) or not target or not target.isprintable():  # type: ignore[redundant-expr]  # as a caller gives it
        raise UsageError(f"target {target!r:.64} is no address; expected one such as 'localhost:50051', or 'local'")
    if "://" in target and not target.startswith(_SCHEMES):
        raise UsageError(f"target {target!r} has a scheme that gRPC does not know; leave it out: 'host:port'")
    if target != LOCAL and not target.startswith(_SCHEMES) and not _HAS_PORT.search(target):
        raise UsageError(f"target {target!r} has no port; expected 'host:port', such as 'localhost:50051'")
    # gRPC would take the rest of a division by 65536.
    if not target.startswith(_WITHOUT_PORTS) and any(
        len(port) > 5 or int(port) > 65535 for port in _PORTS.findall(target)
    ):
        raise UsageError(f"target {target!r} has a port above 65535; expected 'host:port', such as 'localhost:50051'")


def _path(option: str, path: str | Path | None) -> Path | None:
    if path is None:
        return None
    try:
        found = Path(path)
        os.fsencode(found)
    except (TypeError, ValueError):
        found = None
    if found is None or "\0" in str(found):
        raise UsageError(f"{option}={path!r:.64} is no path of a file")
    return found


def _is_loopback(target: str) -> bool:
    host = target.rpartition("/")[2].rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return target == LOCAL or host == "localhost" or target.startswith(_SOCKETS)


def credentials(to: Address) -> grpc.ChannelCredentials:
    """TLS credentials from the files of an address.

    Raises:
        UsageError: A file cannot be read.
    """
    return grpc.ssl_channel_credentials(
        _content("ca", to.ca), _content("key", to.key), _content("certificate", to.certificate)
    )


def _content(option: str, path: Path | None) -> bytes | None:
    try:
        return None if path is None else path.read_bytes()
    except OSError as error:
        raise UsageError(f"cannot read {path} ({option}=): {error.strerror}") from error


def opened(to: Address) -> grpc.Channel:
    """A channel to an address.

    Raises:
        UsageError: A file cannot be read.
    """
    if to.tls:
        return grpc.secure_channel(to.target, credentials(to), options(to))
    return grpc.insecure_channel(to.target, options(to))


def options(to: Address) -> Sequence[tuple[str, int | str]]:
    """Options of the channel."""
    # No retry policy: gRPC's own tries no call again whose answer broke off or that says when to try again, and sends a
    # stream that broke off in the middle again without its end. See Attempts.
    config: dict[str, Any] = {"loadBalancingConfig": [{"round_robin": {}}]}
    name = () if to.server_name is None else (("grpc.ssl_target_name_override", to.server_name),)
    return (
        *name,
        ("grpc.service_config", json.dumps(config)),
        ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
        ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
        # Large messages: six times the throughput of the defaults.
        ("grpc.http2.max_frame_size", 1 << 20),
        ("grpc.http2.lookahead_bytes", 16 << 20),
        ("grpc.http2.write_buffer_size", 8 << 20),
        ("grpc.http2.bdp_probe", 0),
        # A connection that is gone without a word is found within half a minute.
        ("grpc.keepalive_time_ms", 20_000),
        ("grpc.keepalive_timeout_ms", 10_000),
        ("grpc.http2.max_pings_without_data", 0),
        ("grpc.initial_reconnect_backoff_ms", 200),
        ("grpc.max_reconnect_backoff_ms", 1_000),
    )


def _pauses(to: Address) -> Iterator[float]:
    """Seconds to wait before each further attempt at a call that broke off; as many as the address allows."""
    pause = FIRST_PAUSE
    for _ in range(to.max_attempts - 1):
        yield min(pause, LONGEST_PAUSE) * uniform(1 - JITTER, 1 + JITTER)  # noqa: S311  (no secret)
        pause *= GROWTH


def new_request_id() -> str:
    """An id for a call: the server's log has it, and so have the call's result or error."""
    return uuid4().hex


def error_of(
    error: grpc.RpcError,
    to: Address,
    request_id: str,
    graph: graph_pb2.Graph | None = None,
    *,
    by_id: bool = False,
) -> GradwireError:
    """The error that a failed call means. ``grpc.aio``'s errors have the same methods.

    Args:
        error: As gRPC raised it.
        to: Where the call went.
        request_id: Id of the call.
        graph: The graph that was sent, if one was.
        by_id: Whether the call named its graph by the id.
    """
    # The stubs know neither of the two metadata classes of gRPC.
    trailers: dict[str, Any] = dict(cast("Any", error.trailing_metadata()) or ())
    meant = _meant(error, to, trailers.get(_STATUS_KEY), graph)
    if by_id and error.code() is grpc.StatusCode.NOT_FOUND and meant.reason is None:
        # A proxy may have dropped the details, of which the reason is one.
        meant = GraphNotFoundError(str(meant))
    # A proxy may have given it another id.
    return of_call(meant, trailers.get(_REQUEST_ID, request_id))


def _meant(error: grpc.RpcError, to: Address, status: bytes | None, graph: graph_pb2.Graph | None) -> GradwireError:
    code, details, target = error.code(), error.details() or "", to.target
    if status is not None:
        return from_status(Status.FromString(status), graph)
    too_large = _TOO_LARGE.search(details)
    if too_large:
        return _too_large(too_large, details, target)
    if code in _NOT_SERVED or details == _BROKE_AT_ONCE or _RESET in details:
        cause = _tls_cause(details, to)
        if cause is not None:
            return TLSError(f"no connection to {target}: {cause}; gRPC says: {details}")
        return UnavailableError(f"no server answers at {target}: {details}; {_advice(details, to)}")
    if code is grpc.StatusCode.UNIMPLEMENTED:
        return UnimplementedError(f"the server at {target} does not speak {SERVICE.full_name}: {details}")
    message = f"{target}: {details}"
    if code is grpc.StatusCode.DEADLINE_EXCEEDED:
        message = (
            f"{target} did not answer within the timeout of the call; give it more time, or see whether the server is "
            f"busy or hangs; gRPC says: {details}"
        )
    return from_status(Status(code=code.value[0], message=message))


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


class Deadline:
    """When a call that began just now must have ended; ``timeout`` is in seconds, None is no bound."""

    def __init__(self, timeout: float | None) -> None:
        self._end = None if timeout is None else monotonic() + timeout

    @property
    def left(self) -> float | None:
        """Seconds until then; None for no bound.

        Raises:
            DeadlineExceededError: It has passed.
        """
        left = None if self._end is None else self._end - monotonic()
        if left is not None and left <= 0:
            raise too_late()
        return left


class Attempts(Deadline):
    """When to begin a call anew that broke off, or that a busy server turned away. No I/O happens here."""

    def __init__(self, to: Address, timeout: float | None) -> None:
        super().__init__(timeout)
        self._pauses = _pauses(to)

    def pause(self, error: GradwireError) -> float:
        """Seconds to wait before the next attempt, after one that ended with this error.

        Raises:
            GradwireError: This one, if trying again makes no sense, or after the last attempt, or if the server says to
                wait until after the deadline.
            DeadlineExceededError: The deadline has passed.
        """
        pause, left = None, self.left
        if isinstance(error, OverloadedError | UnavailableError):
            pause = next(self._pauses, None)
        if pause is None:
            raise error
        if isinstance(error, OverloadedError):
            # A busy server is asked no sooner than it says, and those whom it turned away together come back apart.
            pause = (error.retry_after or 0) + pause * uniform(0, 2)  # noqa: S311  (as above)
            if left is not None and pause >= left:
                raise error
        return pause if left is None else min(pause, left)


def too_late() -> DeadlineExceededError:
    """The error of a call that took longer than its timeout."""
    return DeadlineExceededError("the call took longer than its timeout; give it more time")
