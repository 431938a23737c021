"""The port of operators: /metrics for Prometheus, /livez and /readyz for orchestrators."""

from __future__ import annotations

import asyncio
import socket
import sys
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from socketserver import TCPServer, ThreadingMixIn
from threading import Event, Thread
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

import structlog
from prometheus_client import CollectorRegistry, make_wsgi_app

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

PATIENCE = 5.0
"""Seconds in which a live event loop answers; what runs on it takes milliseconds."""

OPEN = 100
"""Connections at a time, each of which has a thread; whoever asks does so at once, and is answered in milliseconds."""

NAME = "gradwire"
"""The server of pages in its answers; it tells no versions."""

OPEN_METRICS = "application/openmetrics-text"
"""The form of metrics that has exemplars."""

PAGES = "the pages of operators"
"""The method that the log names."""

Probe = Callable[[], bool]

_Page = tuple[str, list[tuple[str, str]], bytes]
"""Status, headers and body."""

_log = structlog.get_logger()


def serve_pages(host: str, port: int, registry: CollectorRegistry, probes: Mapping[str, Probe]) -> int:
    """Answer on this address, on threads of their own; returns the port.

    Args:
        host: Address to listen on.
        port: 0 takes a free one.
        registry: The metrics.
        probes: What each further path asks: 200 if it holds, 503 if not.

    Raises:
        OSError: The address is taken or cannot be had.
    """
    family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]

    class Server(_Server):
        address_family = family

    server = Server((str(address[0]), port), _Handler)
    server.set_app(_application(registry, probes))
    Thread(target=server.serve_forever, name="gradwire-pages", daemon=True).start()
    return server.server_port


def answers(loop: asyncio.AbstractEventLoop) -> bool:
    """Whether an event loop runs what it is given, asked from another thread."""
    ran = Event()
    try:
        loop.call_soon_threadsafe(ran.set)
    except RuntimeError:
        return False
    return ran.wait(PATIENCE)


def _application(registry: CollectorRegistry, probes: Mapping[str, Probe]) -> WSGIApplication:
    metrics: WSGIApplication = make_wsgi_app(registry)
    paths = " ".join(["/metrics", *probes])

    def page(environ: WSGIEnvironment) -> _Page:
        path = environ["PATH_INFO"]
        if path != "/metrics" and path not in probes:
            return _text("404 Not Found", f"there is {paths} here")
        if environ["REQUEST_METHOD"] not in ("GET", "HEAD"):
            return _text("405 Method Not Allowed", "ask with GET or HEAD")
        if path == "/metrics":
            return _metrics(metrics, environ)
        return _text("200 OK", "ok") if probes[path]() else _text("503 Service Unavailable", "no")

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        try:
            status, headers, body = page(environ)
        except Exception:  # noqa: BLE001  (whatever it is)
            # The server of pages would write a trace to stderr.
            _log.exception("internal error", method=PAGES)
            status, headers, body = _text("500 Internal Server Error", "internal error; the server's log has it")
        fixed = [("Server", NAME), ("Cache-Control", "no-store"), ("Content-Length", str(len(body)))]
        start_response(status, [*headers, *fixed])
        return [] if environ["REQUEST_METHOD"] == "HEAD" else [body]

    return application


def _text(status: str, text: str) -> _Page:
    return status, [("Content-Type", "text/plain; charset=utf-8")], f"{text}\n".encode()


def _metrics(metrics: WSGIApplication, environ: WSGIEnvironment) -> _Page:
    """The page of metrics, in one of two forms."""
    started: list[tuple[str, list[tuple[str, str]]]] = []

    def start_response(status: str, headers: list[tuple[str, str]], _: object = None) -> Any:  # noqa: ANN401  (unused)
        started.append((status, headers))

    # Versions and the like that make no sense are an error of prometheus-client, and change nothing.
    accepted = OPEN_METRICS if OPEN_METRICS in environ.get("HTTP_ACCEPT", "") else ""
    body = b"".join(metrics(environ | {"REQUEST_METHOD": "GET", "HTTP_ACCEPT": accepted}, start_response))
    return *started[-1], body


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True
    request_queue_size = OPEN

    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self._open: OrderedDict[socket.socket, None] = OrderedDict()
        """The connections, as they came."""
        super().__init__(address, handler)

    def server_bind(self) -> None:
        """Bind, and ask nobody for a name of the address, as Python does: where DNS is down that takes long."""
        TCPServer.server_bind(self)
        self.server_name, self.server_port = NAME, self.server_address[1]
        self.setup_environ()

    def process_request(self, request: Any, client_address: Any) -> None:  # noqa: ANN401  (as it is there)
        """Answer, and hang up on whoever has kept a thread the longest where there are too many."""
        self._open[request] = None
        if len(self._open) > OPEN:
            longest, _ = self._open.popitem(last=False)
            with suppress(OSError):
                longest.shutdown(socket.SHUT_RDWR)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:  # noqa: ANN401  (as it is there)
        """Close a connection."""
        self._open.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:
        """Log a fault, and nothing of a connection that broke off: Python would write a trace to stderr for each."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("internal error", method=PAGES)


class _Handler(WSGIRequestHandler):
    timeout = 5  # of a connection that says nothing

    def version_string(self) -> str:
        """Name the server, for answers to what is no request."""
        return NAME

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002  (as it is there)
        """Log nothing: it would be a line each time that anybody asks."""
