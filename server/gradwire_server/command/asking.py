"""What the command asks a server that runs: its health, and what it is."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gradwire as gw
from gradwire._transports.address import address
from gradwire._transports.channel import new_request_id, opened
from gradwire._transports.meaning import error_of
from gradwire_server.configuration.help import human, is_bytes
from gradwire_server.configuration.settings import Target

WIDTH = 100
"""Columns of a table, at most."""

_OPTION = re.compile(r"\b(tls|ca|certificate|key|server_name)=(True\b|(?=[,;) ]|$))")
"""An option as the SDK's errors write it."""


def health(target: Target) -> str:
    """The status of a whole server, such as ``SERVING``.

    Raises:
        GradwireError: It does not answer.
    """
    with in_words_of_the_command():
        to, request_id = address(target.address, **connection(target)), new_request_id()
        with opened(to) as channel:
            stub: Any = health_pb2_grpc.HealthStub(channel)
            try:
                response = stub.Check(
                    health_pb2.HealthCheckRequest(), timeout=target.timeout, metadata=to.metadata(request_id)
                )
            except grpc.RpcError as error:
                raise error_of(error, to, request_id) from None
    status: str = health_pb2.HealthCheckResponse.ServingStatus.Name(response.status)
    return status


def info(target: Target) -> str:
    """Version, limits and ops of a server, in tables.

    Raises:
        GradwireError: It does not answer.
    """
    with in_words_of_the_command(), gw.connect(target.address, **connection(target)) as client:
        found = client.info(timeout=target.timeout)
    workers = "one process" if found.workers == 1 else f"{found.workers} processes, each with these limits"
    return "\n".join(
        [
            f"gradwire {found.version} at {target.address}, {workers}",
            "",
            *_table(("limit", "value"), ((name, _shown(name, value)) for name, value in found.limits.items())),
            "",
            *_table(("op", "value"), found.ops.items()),
        ]
    )


@contextmanager
def in_words_of_the_command() -> Iterator[None]:
    """Errors of the SDK in words of the command."""
    try:
        yield
    except gw.GradwireError as error:
        kind = gw.UsageError if isinstance(error, gw.UsageError) else gw.GradwireError
        raise kind(_OPTION.sub(_flag, str(error))) from None


def _flag(option: re.Match[str]) -> str:
    return f"--{option[1].replace('_', '-')}"


def connection(target: Target) -> gw.Connection:
    """How to connect to a server, as the SDK has it; a call is not tried again."""
    return {
        "tls": target.tls,
        "ca": target.ca,
        "certificate": target.certificate,
        "key": target.key,
        "server_name": target.server_name,
        "token": target.token_file,
        "max_attempts": 1,
    }


def _shown(setting: str, value: int) -> str:
    return f"{value:,} ({human(value)})" if is_bytes(setting) else f"{value:,}"


def _table(head: tuple[str, str], rows: Iterable[tuple[str, str]]) -> Iterator[str]:
    lines = [head, *rows]
    width = max(len(name) for name, _ in lines)
    for name, text in lines:
        yield f"{name:<{width}}  {text}"[:WIDTH]
