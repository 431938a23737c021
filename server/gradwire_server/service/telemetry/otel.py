"""Traces for OpenTelemetry: a span of each call, and spans of the parts of its work below it.

Nothing of OpenTelemetry is imported unless its environment asks for traces (``OTEL_EXPORTER_OTLP_ENDPOINT`` and the
like); its own SDK reads the rest of that environment.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib.metadata import entry_points
from threading import Thread
from typing import TYPE_CHECKING, Any

import grpc

from gradwire_server.configuration.settings import StartError
from gradwire_server.service.telemetry.spans import SPANS
from gradwire_server.version import VERSION

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.trace import Span

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_EXPORTERS = {"grpc": "otlp_proto_grpc", "http/protobuf": "otlp_proto_http"}

_HTTP_ADVICE = "; pip install opentelemetry-exporter-otlp-proto-http, or set OTEL_EXPORTER_OTLP_PROTOCOL=grpc"

FLUSH_SECONDS = 2.0
"""What a server that ends waits at most for the last spans to go."""

_FAULTS = frozenset(
    {
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.UNIMPLEMENTED,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DATA_LOSS,
    }
)
"""Codes that are errors of a server, as the conventions of OpenTelemetry have it."""


class CallSpan:
    """The span of a call, from now on the current one of its task."""

    def __init__(self, span: Span) -> None:
        self._span = span
        context = span.get_span_context()
        self.trace_id = f"{context.trace_id:032x}"
        self.exemplar = {"trace_id": self.trace_id} if context.trace_flags.sampled else None
        """What leads from a metric to the trace, if somebody keeps it."""

    def end(self, code: grpc.StatusCode) -> None:
        """End it, with the call's status."""
        from opentelemetry.trace import StatusCode  # noqa: PLC0415  (see above)

        self._span.set_attribute("rpc.grpc.status_code", code.value[0])
        if code in _FAULTS:
            self._span.set_status(StatusCode.ERROR)
        self._span.end()


def start_call(method: str, metadata: Iterable[tuple[str, Any]] | None, request_id: str) -> CallSpan | None:
    """A span for a call of this method, below the one that the caller's metadata name; None if nobody wants it."""
    if SPANS.tracer is None:
        return None
    from opentelemetry import context, propagate, trace  # noqa: PLC0415  (as above)

    service, _, name = method.rpartition("/")
    carrier = {key: value for key, value in metadata or () if isinstance(value, str)}
    attributes = {"rpc.system": "grpc", "rpc.service": service, "rpc.method": name, "gradwire.request_id": request_id}
    span = SPANS.tracer.start_span(method, propagate.extract(carrier), trace.SpanKind.SERVER, attributes)
    # It stays until the task ends, with the call.
    context.attach(trace.set_span_in_context(span))
    return CallSpan(span)


class Tracing:
    """Traces as the environment asks for them, as a context manager around the life of a server.

    Raises:
        StartError: What it asks for is not installed, or cannot be had.
    """

    def __init__(self) -> None:
        self._provider: TracerProvider | None = None

    def __enter__(self) -> None:
        exporters = _exporters()
        if exporters:
            self._provider = _provider(exporters)
            SPANS.tracer = self._provider.get_tracer("gradwire", VERSION)

    def __exit__(self, *_: object) -> None:
        if self._provider is not None:
            SPANS.tracer = None
            # An exporter waits for a collector that does not answer, and goes on trying.
            last = Thread(target=self._provider.shutdown, daemon=True)
            last.start()
            last.join(FLUSH_SECONDS)


def _exporters() -> list[str]:
    """Names of the exporters of traces that the environment asks for."""
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return []
    default = "otlp" if any(os.environ.get(name) for name in _ENDPOINTS) else "none"
    names = os.environ.get("OTEL_TRACES_EXPORTER") or default
    protocol = next((os.environ[name] for name in _PROTOCOLS if os.environ.get(name)), "grpc")
    asked = [name.strip() for name in names.split(",")]
    return [_EXPORTERS.get(protocol, protocol) if name == "otlp" else name for name in asked if name != "none"]


def _provider(exporters: list[str]) -> TracerProvider:
    try:
        from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource  # noqa: PLC0415  (as above)
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ModuleNotFoundError:
        raise StartError(
            "the environment asks for traces (OTEL_...), and OpenTelemetry is not installed: pip install "
            "'gradwire[otel]', or set OTEL_SDK_DISABLED=true"
        ) from None
    resource = Resource.create({SERVICE_VERSION: VERSION})
    if str(resource.attributes[SERVICE_NAME]).startswith("unknown_service"):
        resource = resource.merge(Resource({SERVICE_NAME: "gradwire"}))
    classes = [_loaded(name) for name in exporters]
    try:
        provider = TracerProvider(resource=resource, shutdown_on_exit=False)
        for exporter in classes:
            provider.add_span_processor(BatchSpanProcessor(exporter()))
    except Exception as error:  # noqa: BLE001  (whatever an exporter raises for a variable that it cannot read)
        raise StartError(f"traces cannot be set up as the environment has it (OTEL_...): {error}") from None
    return provider


def _loaded(name: str) -> Any:  # noqa: ANN401  (a class of exporters)
    group = "opentelemetry_traces_exporter"
    for found in entry_points(group=group, name=name):
        return found.load()
    known = ", ".join(sorted(found.name for found in entry_points(group=group)))
    raise StartError(
        f"no exporter of traces called {name} is installed (OTEL_TRACES_EXPORTER, {_PROTOCOLS[1]}); there are: {known}"
        f"{_HTTP_ADVICE if name == _EXPORTERS['http/protobuf'] else ''}"
    )
