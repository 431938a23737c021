"""Metrics for Prometheus: calls under the conventional names of gRPC, and what the engine does."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from gradwire_server.configuration.limits import Resource
from gradwire_server.errors import Reason
from gradwire_server.version import VERSION

SECONDS = (1e-4, 2e-4, 5e-4, 1e-3, 2e-3, 5e-3, 1e-2, 2e-2, 5e-2, 0.1, 0.2, 0.5, 1, 2, 5, 10, 20, 60)
"""Bounds of the buckets of every duration, from 100 us to a minute."""

SIZE_CLASSES = (10, 100, 1_000, 10_000, 100_000, 1_000_000)
"""Largest number of nodes of each class of graphs, but for the last one, which has no bound."""

UNKNOWN = "unknown"
"""Service and method of calls to methods that there are not: a caller's text is no label."""

_TYPES = {
    (False, False): "unary",
    (True, False): "client_stream",
    (False, True): "server_stream",
    (True, True): "bidi_stream",
}


@dataclass(frozen=True, slots=True)
class MethodMetrics:
    """The series of one method."""

    method: str
    started: Counter
    handled: dict[grpc.StatusCode, Counter]
    seconds: Histogram
    received: Counter
    sent: Counter


class CallMetrics:
    """What is counted of calls; every series of a known method is there from the start, at 0."""

    def __init__(self, registry: CollectorRegistry, services: Iterable[ServiceDescriptor]) -> None:
        labels = ("grpc_type", "grpc_service", "grpc_method")
        self._started = Counter("grpc_server_started", "Calls that began.", labels, registry=registry)
        self._handled = Counter(
            "grpc_server_handled", "Calls that ended, by status code.", (*labels, "grpc_code"), registry=registry
        )
        self._seconds = Histogram(
            "grpc_server_handling_seconds",
            "Time from the start of a call to its end.",
            labels,
            buckets=SECONDS,
            registry=registry,
        )
        self._received = Counter("grpc_server_msg_received", "Messages received.", labels, registry=registry)
        self._sent = Counter("grpc_server_msg_sent", "Messages sent.", labels, registry=registry)
        self._methods = {
            f"/{service.full_name}/{method.name}": self._bound(_type(method), service.full_name, method.name)
            for service in services
            for method in service.methods
        }
        self._unknown = self._bound("unary", UNKNOWN, UNKNOWN)

    def _bound(self, kind: str, service: str, method: str) -> MethodMetrics:
        return MethodMetrics(
            method=f"{service}/{method}",
            started=self._started.labels(kind, service, method),
            handled={code: self._handled.labels(kind, service, method, code_label(code)) for code in grpc.StatusCode},
            seconds=self._seconds.labels(kind, service, method),
            received=self._received.labels(kind, service, method),
            sent=self._sent.labels(kind, service, method),
        )

    def of(self, method: str) -> MethodMetrics:
        """The series of the method of this full name, such as ``/grpc.health.v1.Health/Check``."""
        return self._methods.get(method, self._unknown)


def code_label(code: grpc.StatusCode) -> str:
    """The code as the gRPC middlewares label it, in Go's spelling: ``InvalidArgument``, ``Canceled``, ``OK``."""
    if code in (grpc.StatusCode.OK, grpc.StatusCode.CANCELLED):
        return "OK" if code is grpc.StatusCode.OK else "Canceled"
    return code.name.title().replace("_", "")


def _type(method: MethodDescriptor) -> str:
    return _TYPES[method.client_streaming, method.server_streaming]


class Stage(StrEnum):
    """How far a request has come."""

    RECEIVING = "receiving"
    QUEUED = "queued"
    RUNNING = "running"
    SENDING = "sending"


class Metrics:
    """What the service counts of its own work."""

    def __init__(self, registry: CollectorRegistry) -> None:
        # Of several workers the sum; a worker that has gone counts no more.
        gauge = partial(Gauge, registry=registry, multiprocess_mode="livesum")
        self._compute = Histogram(
            "gradwire_compute_seconds",
            "Time to evaluate and differentiate, by the largest number of nodes of the graph's size class.",
            ("nodes_le",),
            buckets=SECONDS,
            registry=registry,
        )
        self._compute_of = [
            (bound, self._compute.labels(f"{bound:g}")) for bound in (*map(float, SIZE_CLASSES), float("inf"))
        ]
        self._compile = Histogram(
            "gradwire_compile_seconds", "Time to check and prepare a graph.", buckets=SECONDS, registry=registry
        )
        self._nodes = Counter(
            "gradwire_nodes_processed", "Nodes of the graphs evaluated, once for each example.", registry=registry
        )
        self._examples = Counter("gradwire_examples_processed", "Examples evaluated.", registry=registry)
        self._received = Counter("gradwire_received_bytes", "Bytes of requests, decompressed.", registry=registry)
        self._sent = Counter("gradwire_sent_bytes", "Bytes of responses, before compression.", registry=registry)
        refused = Counter("gradwire_refused", "Requests refused, by reason.", ("reason",), registry=registry)
        self._refused = {reason: refused.labels(reason.value) for reason in Reason}
        non_finite = Counter(
            "gradwire_non_finite",
            "Results with a value or gradient that is not finite, by where it arose first.",
            ("phase",),
            registry=registry,
        )
        self._non_finite = {phase: non_finite.labels(phase) for phase in ("value", "gradient", "reduction")}
        self._programs = gauge("gradwire_programs_cached", "Prepared graphs that are kept.")
        self._programs_bytes = gauge("gradwire_programs_cached_bytes", "Memory of the prepared graphs that are kept.")
        self.in_flight = {
            Resource.REQUESTS: gauge("gradwire_requests_in_flight", "Requests that run on a thread or wait for one."),
            Resource.BYTES: gauge(
                "gradwire_requests_in_flight_bytes",
                "Bytes of requests that arrive, run or wait, and of responses until they are sent.",
            ),
            Resource.MEMORY: gauge(
                "gradwire_requests_in_flight_memory_bytes", "Memory, as estimated, of computations that run or wait."
            ),
        }
        turned_away = Counter(
            "gradwire_requests_refused",
            "Requests turned away because the server was busy, by what it had no more of.",
            ("resource",),
            registry=registry,
        )
        self._turned_away = {resource: turned_away.labels(resource.value) for resource in Resource}
        cancelled = Counter(
            "gradwire_requests_cancelled",
            "Requests whose caller gave up or whose time was over, by how far they had come.",
            ("stage",),
            registry=registry,
        )
        self._cancelled = {stage: cancelled.labels(stage.value) for stage in Stage}
        self._delay = Histogram(
            "gradwire_event_loop_delay_seconds",
            "How late the event loop was for what was due, once a second in each process that serves.",
            buckets=SECONDS,
            registry=registry,
        )
        build = Gauge(
            "gradwire_build_info",
            "Always 1; the label says what runs.",
            ("version",),
            registry=registry,
            multiprocess_mode="livemax",
        )
        build.labels(VERSION).set(1)

    def compiled(self, seconds: float, programs: int, nbytes: int) -> None:
        """A graph was prepared; so many are kept now, and take so many bytes."""
        self._compile.observe(seconds)
        self._programs.set(programs)
        self._programs_bytes.set(nbytes)

    def evaluated(self, nodes: int, examples: int, seconds: float, non_finite: str | None) -> None:
        """A loss was evaluated and differentiated."""
        next(series for bound, series in self._compute_of if nodes <= bound).observe(seconds)
        self._nodes.inc(nodes * examples)
        self._examples.inc(examples)
        if non_finite is not None:
            self._non_finite[non_finite].inc()

    def refused(self, reason: Reason) -> None:
        """A request was refused."""
        self._refused[reason].inc()

    def turned_away(self, resource: Resource) -> None:
        """A request was turned away for want of this."""
        self._turned_away[resource].inc()

    def cancelled(self, stage: Stage) -> None:
        """A request was given up at this stage."""
        self._cancelled[stage].inc()

    def received(self, nbytes: int) -> None:
        """A request, or a frame of one, came."""
        self._received.inc(nbytes)

    def delayed(self, seconds: float) -> None:
        """The event loop was so late."""
        self._delay.observe(seconds)

    def sent(self, nbytes: int) -> None:
        """A response, or a frame of one, went."""
        self._sent.inc(nbytes)
