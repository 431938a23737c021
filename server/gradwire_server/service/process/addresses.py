"""Addresses that the server listens on, and why it cannot."""

from __future__ import annotations

import asyncio
import os
import socket
import sys
from errno import EADDRINUSE
from functools import partial

import structlog
from prometheus_client import CollectorRegistry

from gradwire_server.configuration.settings import Settings, StartError
from gradwire_server.service.telemetry.probes import Probe, answers, serve_pages


def bracketed(host: str) -> str:
    """The host as it stands before a port."""
    return f"[{host}]" if ":" in host else host


def taken(settings: Settings) -> StartError:
    """The error of an address that gRPC did not get, with the cause, which gRPC does not tell."""
    try:
        reserve(settings).close()
    except StartError as error:
        return error
    return _unavailable(settings, "gRPC could not bind it")


def _unavailable(settings: Settings, cause: str | None) -> StartError:
    return StartError(f"cannot listen on {bracketed(settings.host)}:{settings.port}: {cause} (--host, --port)")


def reserve(settings: Settings) -> socket.socket:
    """A socket that has the address and never listens, so that the port stays ours while workers come and go.

    Raises:
        StartError: if the address is taken or cannot be had.
    """
    try:
        # Of several addresses the first one.
        family, kind, protocol, _, address = socket.getaddrinfo(
            settings.host, settings.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        with socket.socket(family, kind, protocol) as alone:
            # Fails also beside a server that shares its port.
            alone.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            alone.bind(address)
            address = alone.getsockname()
        kept = socket.socket(family, kind, protocol)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        kept.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        kept.bind(address)
    except OSError as error:
        in_use = error.errno == EADDRINUSE
        cause = "another server is running there" if in_use else error.strerror
        raise _unavailable(settings, cause) from None
    return kept


def check_addresses(settings: Settings) -> None:
    """Check that addresses are those of this machine, and that calls and metrics have their own.

    Raises:
        StartError: They are not.
    """
    host, port = settings.metrics_host or settings.host, settings.metrics_port
    if port and (host, port) == (settings.host, settings.port):
        # Several workers would find it taken.
        raise StartError(f"{bracketed(host)}:{port} is to be for calls and for metrics (--port, --metrics-port)")
    for name, option in ((settings.host, "--host"), (host, "--metrics-host")):
        try:
            family, kind, protocol, _, address = socket.getaddrinfo(
                name, 0, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
            )[0]
            with socket.socket(family, kind, protocol) as found:
                found.bind(address)
        except OSError as error:
            raise StartError(f"cannot listen on {name}: {error.strerror} ({option})") from None


def serve_metrics(settings: Settings, registry: CollectorRegistry, ready: Probe) -> str:
    """Answer Prometheus and orchestrators, as long as this event loop is alive; returns the URL of the metrics.

    Raises:
        StartError: if the address is taken or cannot be had.
    """
    check_addresses(settings)
    host, port = settings.metrics_host or settings.host, settings.metrics_port
    live = partial(answers, asyncio.get_running_loop())
    try:
        bound = serve_pages(host, port, registry, {"/livez": live, "/readyz": ready})
    except OSError as error:
        raise StartError(
            f"cannot serve metrics on {bracketed(host)}:{port}: {error.strerror} (--metrics-host, --metrics-port)"
        ) from None
    return f"http://{bracketed(host)}:{bound}/metrics"


def announce(address: str, metrics_url: str) -> None:
    """Write the line to stdout by which whoever started the server knows that it serves, and where; log it too."""
    structlog.get_logger().info("serving", address=address, metrics=metrics_url)
    line = f"gradwire serving on {address}, metrics on {metrics_url}\n"
    try:
        # Python would keep in a buffer what cannot be written, and try again at its end.
        os.write(sys.stdout.fileno(), line.encode())
    except OSError as error:
        structlog.get_logger().warning("this line cannot be written to stdout", line=line, error=error.strerror)
