"""All that answers calls in a process, wired together, whatever brings them there."""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Callable
from pathlib import Path
from time import monotonic, thread_time
from typing import Any

import grpc
from google.protobuf import descriptor_pool
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.internal import api_implementation
from grpc_health.v1 import health, health_pb2_grpc
from grpc_reflection.v1alpha import reflection, reflection_pb2_grpc
from prometheus_client import CollectorRegistry
from threadpoolctl import threadpool_limits

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server import engine
from gradwire_server.configuration.settings import Settings, StartError
from gradwire_server.service.capacity.admission import Admission
from gradwire_server.service.capacity.waits import Arrivals, Waits
from gradwire_server.service.capacity.work import Work
from gradwire_server.service.process.allocator import keep_freed
from gradwire_server.service.requests.logic import GradientLogic
from gradwire_server.service.rpc.answering import Answering
from gradwire_server.service.rpc.handlers import CountedHandlers
from gradwire_server.service.rpc.sending import LOGGER, Sending
from gradwire_server.service.rpc.servicer import GradientServicer
from gradwire_server.service.rpc.small import SmallRequests
from gradwire_server.service.rpc.standard import HealthServicer, ReflectionServicer
from gradwire_server.service.rpc.streams import Streams
from gradwire_server.service.rpc.unary import UnaryCalls
from gradwire_server.service.rpc.uploads import Uploads
from gradwire_server.service.security.tokens import Tokens
from gradwire_server.service.telemetry.metrics import CallMetrics, Metrics
from gradwire_server.service.telemetry.numbers import Numbers

SERVICE: ServiceDescriptor = pb.DESCRIPTOR.services_by_name["GradientService"]
UNARY = frozenset(f"/{SERVICE.full_name}/{method.name}" for method in SERVICE.methods if not method.client_streaming)
HEALTH: ServiceDescriptor = descriptor_pool.Default().FindServiceByName(health.SERVICE_NAME)
REFLECTION: ServiceDescriptor = descriptor_pool.Default().FindServiceByName(reflection.SERVICE_NAME)

PATIENCE = 1.0
"""Seconds that a draining server waits for the next frame of a request that has begun."""

SWITCH_SECONDS = 5e-4
"""That a thread holds Python while others wait for it, such as one that prepares a graph. With Python's default, ten
times as long, a call of a millisecond took sixty beside two of these."""


def prepare_process() -> None:
    """Set up a process that is to answer calls; best before it has threads.

    Raises:
        StartError: Protobuf is not what it must be here.
    """
    if api_implementation.Type() == "python":
        raise StartError(
            "protobuf runs in pure Python here, slowly and without limits on nesting; install a protobuf wheel with "
            "its C extension, and leave PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION unset"
        )
    keep_freed()
    # One thread: results must not depend on how BLAS splits a product, and the workers use the cores already.
    threadpool_limits(1, user_api="blas")
    sys.setswitchinterval(SWITCH_SECONDS)


class Service:
    """Handlers of all calls, and what they stand on.

    Args:
        settings: Limits, threads and times.
        registry: Where Prometheus finds what is counted.
        tokens: Who may call; None lets everybody.
        metrics: The file that the metrics are in, where another process serves them.

    Raises:
        OSError: There is no room for that file.
    """

    def __init__(
        self, settings: Settings, registry: CollectorRegistry, tokens: Tokens | None, metrics: Path | None = None
    ) -> None:
        waits, self._arrivals = Waits(), Waits()
        self._waits = waits
        numbers = Numbers(registry)
        self._metrics = Metrics(numbers)
        self.admission = Admission(settings, self._metrics)
        self.work = Work(settings.threads_of_worker, settings.max_seconds, self._metrics)
        logic = GradientLogic(settings, self._metrics, settings.workers, engine.Threads(settings.threads_of_worker))
        self._store = logic.store
        services = [SERVICE, HEALTH, *([] if settings.no_reflection else [REFLECTION])]
        self.health = HealthServicer([SERVICE.full_name], waits)
        calls = CallMetrics(numbers, services)
        if metrics is not None:
            numbers.share(metrics)
        sending = Sending(settings.max_stall, self._metrics)
        logging.getLogger(LOGGER).addFilter(sending)
        answering = Answering(logic, self.work, self.admission, self._metrics)
        small = SmallRequests(answering)
        streams = Streams(answering, small, waits, self._arrivals, sending, settings.max_stall)
        uploads = Uploads(answering, logic.store, self._arrivals, settings.max_stall)
        servicer = GradientServicer(answering.planner, UnaryCalls(answering, small), streams, uploads)
        self.handlers = CountedHandlers(
            services,
            calls,
            self._metrics.refused,
            tokens,
            self.admission,
            UNARY,
            Arrivals(settings.max_arrival, self._metrics),
            sending,
        )
        handlers: Any = self.handlers
        handlers.add_generic_rpc_handlers(
            [grpc.method_handlers_generic_handler(SERVICE.full_name, _raw_handlers(servicer))]
        )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, handlers)
        if not settings.no_reflection:
            reflector = ReflectionServicer([service.full_name for service in services], waits)
            reflection_pb2_grpc.add_ServerReflectionServicer_to_server(reflector, handlers)  # type: ignore[no-untyped-call]  # generated

    async def measure(self, tell_serving: Callable[[], None] | None = None) -> None:
        """Count once a second how late the event loop is, what it takes, and what has become free.

        Where nothing is counted or told it stands still.
        """
        due, spent = monotonic(), thread_time()
        while True:
            due = max(due + 1, monotonic())
            await asyncio.sleep(due - monotonic())
            spent, before = thread_time(), spent
            self._metrics.looped(max(0.0, monotonic() - due), spent - before)
            self._store.settle()
            if tell_serving is not None:
                tell_serving()

    def end_waits(self) -> None:
        """End the calls that wait for their callers; those in the middle of a request have a moment more."""
        self._waits.end()
        self._arrivals.end(PATIENCE)

    def give_up(self) -> None:
        """End what still runs, and what still arrives."""
        self.admission.give_up()
        self._arrivals.end()

    def tell(self) -> None:
        """Log what was turned away or refused and not told yet."""
        self.admission.tell()
        self.handlers.refused.tell()


def _raw_handlers(servicer: GradientServicer) -> dict[str, grpc.RpcMethodHandler[Any, Any]]:
    """Handlers without deserializers: the servicer parses, so that it can say what is wrong."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {}
    for method in SERVICE.methods:
        # With any stream, the servicer reads and writes by itself.
        kind = grpc.stream_stream_rpc_method_handler if method.client_streaming else grpc.unary_unary_rpc_method_handler
        handlers[method.name] = kind(getattr(servicer, method.name))
    return handlers
