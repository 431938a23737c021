"""Metrics for Prometheus: calls under the conventional names of gRPC, and what the engine does."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from threading import Lock
from typing import TypeVar

import grpc
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from gradwire_server.configuration.limits import Resource
from gradwire_server.errors import Reason
from gradwire_server.service.telemetry.numbers import Count, Duration, Kind, Numbers
from gradwire_server.version import VERSION

V = TypeVar("V", bound=str)

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
    started: Count
    handled: dict[grpc.StatusCode, Count]
    seconds: Duration
    received: Count
    sent: Count
    lock: Lock
    """That of the numbers."""

    def ended(self, code: grpc.StatusCode, seconds: float, exemplar: dict[str, str] | None = None) -> None:
        """A call ended."""
        handled = self.handled[code]
        with self.lock:
            handled.add()
            self.seconds.add(seconds, exemplar)


class CallMetrics:
    """What is counted of calls; every series of a known method is there from the start, at 0."""

    def __init__(self, numbers: Numbers, services: Iterable[ServiceDescriptor]) -> None:
        self._methods = {
            f"/{service.full_name}/{method.name}": _series(numbers, _type(method), service.full_name, method.name)
            for service in services
            for method in service.methods
        }
        self._unknown = _series(numbers, "unary", UNKNOWN, UNKNOWN)

    def of(self, method: str) -> MethodMetrics:
        """The series of the method of this full name, such as ``/grpc.health.v1.Health/Check``."""
        return self._methods.get(method, self._unknown)


def _series(numbers: Numbers, kind: str, service: str, method: str) -> MethodMetrics:
    labels = {"grpc_type": kind, "grpc_service": service, "grpc_method": method}
    return MethodMetrics(
        method=f"{service}/{method}",
        started=numbers.count("grpc_server_started", "Calls that began.", labels),
        handled={
            code: numbers.count(
                "grpc_server_handled", "Calls that ended, by status code.", {**labels, "grpc_code": code_label(code)}
            )
            for code in grpc.StatusCode
        },
        seconds=numbers.duration("grpc_server_handling_seconds", "Time from the start of a call to its end.", labels),
        received=numbers.count("grpc_server_msg_received", "Messages received.", labels),
        sent=numbers.count("grpc_server_msg_sent", "Messages sent.", labels),
        lock=numbers.lock,
    )


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


def _each(
    count: Callable[..., Count], name: str, documentation: str, label: str, values: Iterable[V]
) -> dict[V, Count]:
    """A series for each value of a label."""
    return {value: count(name, documentation, {label: str(value)}) for value in values}


class Metrics:
    """What the service counts of its own work."""

    def __init__(self, numbers: Numbers) -> None:
        self._lock = numbers.lock
        count, gauge = numbers.count, partial(numbers.count, kind=Kind.GAUGE)
        self._compute = [
            numbers.duration(
                "gradwire_compute_seconds",
                "Time to evaluate and differentiate, by the largest number of nodes of the graph's size class.",
                {"nodes_le": f"{bound:g}"},
            )
            for bound in (*map(float, SIZE_CLASSES), float("inf"))
        ]
        self._compile = numbers.duration("gradwire_compile_seconds", "Time to check and prepare a graph.")
        self._nodes = count("gradwire_nodes_processed", "Nodes of the graphs evaluated, once for each example.")
        self._examples = count("gradwire_examples_processed", "Examples evaluated.")
        self.received = count("gradwire_received_bytes", "Bytes of requests, decompressed.").inc
        """A request, or a frame of one, of so many bytes came."""
        self.sent = count("gradwire_sent_bytes", "Bytes of responses, before compression.").inc
        """A response, or a frame of one, of so many bytes went."""
        self._refused = _each(count, "gradwire_refused", "Requests refused, by reason.", "reason", Reason)
        self._non_finite = _each(
            count,
            "gradwire_non_finite",
            "Results with a value or gradient that is not finite, by where it arose first.",
            "phase",
            ("value", "gradient", "reduction"),
        )
        self._programs = gauge("gradwire_programs_cached", "Prepared graphs that are kept.")
        self._programs_bytes = gauge("gradwire_programs_cached_bytes", "Memory of the prepared graphs that are kept.")
        self._sets = gauge("gradwire_stored_sets", "Sets of uploaded examples that are kept.")
        text = "Memory of uploaded examples that are kept, arrive, or are forgotten but still computed with."
        self._sets_bytes = gauge("gradwire_stored_bytes", text)
        self._uploaded = count("gradwire_stored_uploaded", "Sets of examples that came and were not kept already.")
        self._forgotten = count("gradwire_stored_forgotten", "Sets of examples that were forgotten for lack of room.")
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
        text = "Requests turned away because the server was busy, by what it had no more of."
        self._turned_away = _each(count, "gradwire_requests_refused", text, "resource", Resource)
        text = "Requests whose caller gave up or whose time was over, by how far they had come."
        self._cancelled = _each(count, "gradwire_requests_cancelled", text, "stage", Stage)
        self._delay = numbers.duration(
            "gradwire_event_loop_delay_seconds",
            "How late the event loop was for what was due, once a second in each process that serves.",
        )
        self._loop = count(
            "gradwire_event_loop_cpu_seconds",
            "Processor time of the event loop of each process that serves; it is one thread, on one core.",
        )
        build = partial(
            count, "gradwire_build_info", "Always 1; the label says what runs.", {"version": VERSION}, Kind.CONSTANT
        )
        build().set(1)

    def compiled(self, seconds: float, programs: int, nbytes: int) -> None:
        """A graph was prepared; so many are kept now, and take so many bytes."""
        self._compile.observe(seconds)
        self._programs.set(programs)
        self._programs_bytes.set(nbytes)

    def evaluated(self, nodes: int, examples: int, seconds: float, non_finite: str | None) -> None:
        """A loss was evaluated and differentiated."""
        compute = self._compute[bisect_left(SIZE_CLASSES, nodes)]
        with self._lock:
            compute.add(seconds)
            self._nodes.add(nodes * examples)
            self._examples.add(examples)
        if non_finite is not None:
            self._non_finite[non_finite].inc()

    def stored(self, kept: int, nbytes: int) -> None:
        """So many sets of examples are kept now; all that counts in their budget has so many bytes."""
        self._sets.set(kept)
        self._sets_bytes.set(nbytes)

    def uploaded(self) -> None:
        """Examples came that were not kept already."""
        self._uploaded.inc()

    def forgot(self) -> None:
        """Examples were forgotten for lack of room."""
        self._forgotten.inc()

    def refused(self, reason: Reason) -> None:
        """A request was refused."""
        self._refused[reason].inc()

    def turned_away(self, resource: Resource) -> None:
        """A request was turned away for want of this."""
        self._turned_away[resource].inc()

    def cancelled(self, stage: Stage) -> None:
        """A request was given up at this stage."""
        self._cancelled[stage].inc()

    def looped(self, delay: float, seconds: float) -> None:
        """The event loop was so late, and has taken so many more seconds of processor time."""
        self._delay.observe(delay)
        self._loop.inc(seconds)
