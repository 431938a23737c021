"""The server process: everything wired together, started, and drained."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import signal
import sys
from collections.abc import Callable, Coroutine
from functools import partial
from pathlib import Path
from time import monotonic
from typing import Any, NamedTuple

import grpc
import structlog
from prometheus_client import CollectorRegistry, ProcessCollector, disable_created_metrics

from gradwire_server import codec, engine
from gradwire_server.configuration.settings import Settings, is_loopback
from gradwire_server.service.capacity.caller import Caller
from gradwire_server.service.process.addresses import announce, bracketed, serve_metrics, taken
from gradwire_server.service.process.allocator import give_back
from gradwire_server.service.process.service import Service, prepare_process
from gradwire_server.service.security.tls import credentials
from gradwire_server.service.security.tokens import Tokens
from gradwire_server.service.telemetry.otel import Tracing

MESSAGE_MARGIN = 4 << 20
"""How much more than a message may have gRPC takes, in bytes, so that the error can be ours, with limit and advice.

Larger ones gRPC refuses without telling the server, with its own limit in the message; the settings say so.
"""

PENDING = 20_000
"""Calls that may wait for the event loop to take them. Those beyond (with gRPC's default, beyond 1,000) gRPC cancels,
which tells their callers neither why nor to try again; those that the loop takes are told by us."""

STREAMS = PENDING // 2
"""Calls that one connection may have open. Its client waits with more; where it does not, as one that opens calls only
to reset them, gRPC refuses them at once, so that no connection fills up what waits for all. With far fewer gRPC would
also refuse calls of clients that keep to it: it counts a call for a while after its client has the answer."""

OTHER_FILES, FEWEST_OTHER_FILES = 1000, 250
"""Files that a server has open at most beside its connections; and those that it needs where few may be open, of which
connections to its pages are a hundred."""

COMPILING_SECONDS = 60.0
"""Estimate of what compiling the kernels takes."""

GIVE_UP = 0.9
"""Share of the grace time after which work that still runs is refused; the rest is for telling the callers."""


class Worker(NamedTuple):
    """What one of several workers has, with which it shares its port and whose metrics others serve."""

    tell_serving: Callable[[], None]
    """To be called when it serves, and once a second from then on."""
    metrics: Path
    """The file that its metrics are in."""


class Server:
    """A server that is wired up but not yet listening; the kernels of a worker are warm before it begins.

    Raises:
        StartError: if it would not be safe, or certificate, key or tokens cannot be used.
    """

    def __init__(self, settings: Settings, worker: Worker | None = None) -> None:
        self._settings = settings
        self._credentials = credentials(settings)
        self._tokens = None if settings.tokens_file is None else Tokens(settings.tokens_file)
        self._tell_serving = None if worker is None else worker.tell_serving
        self._registry = CollectorRegistry()
        if worker is None:
            ProcessCollector(registry=self._registry)
        self._service = Service(settings, self._registry, self._tokens, None if worker is None else worker.metrics)
        self._grpc = grpc.aio.server(options=_options(settings, shares=worker is not None))
        self._grpc.add_generic_rpc_handlers([self._service.handlers])
        self._beside: list[asyncio.Task[None]] = []
        """What is done besides answering calls."""
        self._log = structlog.get_logger()

    async def run(self) -> bool:
        """Serve until SIGTERM or SIGINT, then drain; False if some work did not stop.

        Raises:
            StartError: if an address is taken or cannot be had.
        """
        stop = asyncio.Event()
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        address = self._listen()
        tell_serving = self._tell_serving
        if tell_serving is None:
            metrics_url = serve_metrics(self._settings, self._registry, lambda: self._service.health.ready)
            tell_serving = partial(announce, address, metrics_url)
        await self._grpc.start()
        self._do_beside(self._service.measure(self._tell_serving))
        if self._tell_serving is None and not await self._warm(stop):
            return await self._leave()
        # What is there by now stays. A collection that goes over all of it holds up every call for a tenth of a second.
        gc.collect()
        gc.freeze()
        self._service.health.tell(ready=True)
        if not is_loopback(self._settings.host) and self._tokens is None and self._settings.tls_client_ca is None:
            self._log.warning("anyone who reaches this address can use the server", address=address)
        tell_serving()
        self._do_beside(give_back())
        await stop.wait()
        return await self._drain()

    def _do_beside(self, work: Coroutine[Any, Any, None]) -> None:
        """Do this until the end, and tell of it if it ends before."""
        task = asyncio.create_task(work)
        task.add_done_callback(self._tell_of_fault)
        self._beside.append(task)

    def _tell_of_fault(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._log.error("what is done beside the calls has ended", exc_info=error)

    async def _warm(self, stop: asyncio.Event) -> bool:
        """Have the kernels ready; False if a signal came first. Calls that come meanwhile wait for them."""
        stopped = asyncio.create_task(stop.wait())
        compiling = partial(engine.warm, self._tell_of_compiling, codec.warm)
        warm = asyncio.create_task(self._service.work.run(Caller(None), COMPILING_SECONDS, compiling))
        await asyncio.wait([stopped, warm], return_when=asyncio.FIRST_COMPLETED)
        if not warm.done():
            return False
        stopped.cancel()
        warm.result()
        return True

    def _tell_of_compiling(self) -> None:
        self._log.info("compiling kernels; this takes up to a minute")

    async def _leave(self) -> bool:
        """End at once: nothing was served yet, and nothing interrupts a compiler."""
        await self._grpc.stop(None)
        self._log.info("stopped")
        return self._service.work.close(0)

    def _listen(self) -> str:
        host, port = bracketed(self._settings.host), self._settings.port
        address = f"{host}:{port}"
        try:
            if self._credentials is None:
                return f"{host}:{self._grpc.add_insecure_port(address)}"
            return f"{host}:{self._grpc.add_secure_port(address, self._credentials)}"
        except RuntimeError:
            raise taken(self._settings) from None

    async def _drain(self) -> bool:
        self._log.info("draining", in_flight=self._service.admission.in_flight, grace=self._settings.grace)
        self._service.health.tell(ready=False)
        await asyncio.sleep(self._settings.announce)
        grace, start = self._settings.grace, monotonic()
        self._service.end_waits()
        asyncio.get_running_loop().call_later(GIVE_UP * grace, self._service.give_up)
        await self._grpc.stop(grace)
        stopped = await asyncio.to_thread(self._service.work.close, grace - (monotonic() - start))
        self._service.tell()
        if not stopped:
            self._log.warning("work that nobody waits for any more did not stop within the grace time; leaving it")
        self._log.info("stopped")
        return stopped


def _options(settings: Settings, *, shares: bool) -> list[tuple[str, int]]:
    cap = settings.max_message_bytes + MESSAGE_MARGIN
    ages = {
        "grpc.max_connection_idle_ms": settings.max_connection_idle,
        "grpc.max_connection_age_ms": settings.max_connection_age,
        "grpc.max_connection_age_grace_ms": settings.grace,
    }
    return [
        *((option, int(1000 * seconds)) for option, seconds in ages.items() if seconds is not None),
        # A connection whose other end is gone without a word is found within a minute.
        ("grpc.keepalive_time_ms", 40_000),
        ("grpc.keepalive_timeout_ms", 20_000),
        ("grpc.max_allowed_incoming_connections", settings.max_connections),
        ("grpc.max_receive_message_length", cap),
        ("grpc.max_send_message_length", cap),
        # Large messages: six times the throughput of the defaults.
        ("grpc.http2.max_frame_size", 1 << 20),
        ("grpc.http2.lookahead_bytes", 16 << 20),
        ("grpc.http2.write_buffer_size", 8 << 20),
        ("grpc.http2.bdp_probe", 0),
        # Clients may ping every ten seconds, also without calls under way; the default closes their connection.
        ("grpc.http2.min_ping_interval_without_data_ms", 10_000),
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.max_concurrent_streams", STREAMS),
        ("grpc.server.max_pending_requests", PENDING),
        ("grpc.server.max_pending_requests_hard_limit", PENDING),
        # A second server on the same port, other than a worker, would silently take every other connection.
        ("grpc.so_reuseport", int(shares)),
    ]


def serve(settings: Settings, worker: Worker | None = None) -> None:
    """Serve in this process until a signal ends it.

    Raises:
        StartError: if the process cannot serve here.
    """
    prepare_process()
    settings = _let_open(settings)
    disable_created_metrics()  # type: ignore[no-untyped-call]  # it has no annotations
    with Tracing(), asyncio.Runner(loop_factory=_loop_factory()) as runner:
        stopped = runner.run(_serve(settings, worker))
    if not stopped:
        # Python would wait for the threads.
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _let_open(settings: Settings) -> Settings:
    """Have as many files open as connections need, or as the process may, which is often 1,024 at first.

    Where that is not enough the settings that come back have fewer connections: with those that could not be opened
    gRPC would be busy for ever, and answer nobody who comes then.
    """
    needed = settings.max_connections + OTHER_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    files = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    if soft != resource.RLIM_INFINITY and soft < files:
        resource.setrlimit(resource.RLIMIT_NOFILE, (files, hard))
    if files == needed:
        return settings
    others = min(OTHER_FILES, max(FEWEST_OTHER_FILES, files // 4))
    connections = min(settings.max_connections, max(files - others, files // 4, 1))
    structlog.get_logger().warning(
        "fewer files may be open than --max-connections needs, which is lowered; raise the limit (ulimit -Hn) for more",
        limit=hard,
        needed=needed,
        max_connections=connections,
    )
    return settings.model_copy(update={"max_connections": connections})


async def _serve(settings: Settings, worker: Worker | None) -> bool:
    # gRPC binds its server to the loop that runs when it is made.
    return await Server(settings, worker).run()


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Uvloop's where there is one: a small call takes a few per cent less."""
    try:
        import uvloop  # noqa: PLC0415  (not on every platform)
    except ImportError:
        return None
    return uvloop.new_event_loop
