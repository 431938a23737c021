"""Traces, as a collector of OpenTelemetry gets them."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any
from urllib.request import ProxyHandler, build_opener

import grpc
import numpy as np
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2, trace_service_pb2_grpc
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server.version import VERSION
from tests.integration.raw import SERVICE, channel, stub
from tests.integration.server_process import DEADLINE, ServerProcess
from tests.integration.test_lifecycle import gradwire
from tests.integration.test_service import tensors
from tests.integration.waiting import eventually
from tests.losses import hinge, perceptron

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


class Collector(trace_service_pb2_grpc.TraceServiceServicer):
    """Keeps what is exported to it."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.resources: list[dict[str, str]] = []

    def Export(self, request: Any, context: object) -> Any:  # noqa: N802
        for resource in request.resource_spans:
            self.resources.append({a.key: a.value.string_value for a in resource.resource.attributes})
            self.spans += [span for scope in resource.scope_spans for span in scope.spans]
        return trace_service_pb2.ExportTraceServiceResponse()

    def called(self, method: str) -> list[Span]:
        return [span for span in self.spans if span.name == f"{SERVICE}/{method}"]

    def below(self, parent: Span) -> list[str]:
        return [span.name for span in self.spans if span.parent_span_id == parent.span_id]


@pytest.fixture
def collector() -> Iterator[tuple[Collector, dict[str, str]]]:
    """A collector, and the environment that names it."""
    collector = Collector()
    server = grpc.server(ThreadPoolExecutor(1))
    trace_service_pb2_grpc.add_TraceServiceServicer_to_server(collector, server)  # type: ignore[no-untyped-call]  # generated
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield collector, {**os.environ, "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{port}"}
    server.stop(None).wait()


@pytest.mark.parametrize("flags", [(), ("--workers=2",)])
def test_a_call_is_a_span_below_that_of_its_caller_with_its_parts(
    collector: tuple[Collector, dict[str, str]], flags: tuple[str, ...]
) -> None:
    found, environment = collector
    case, large = hinge(), perceptron(2000)
    metadata = (("traceparent", f"00-{TRACE}-{PARENT}-01"), ("x-request-id", "of-the-test"))
    with ServerProcess(flags=(*flags, "--log-level=debug"), environment=environment) as server:
        with channel(server.address) as opened:
            for each in (case, large):
                request = pb.ComputeGradientsRequest(graph=gw.graph(each.loss), tensors=tensors(each))
                stub(opened).ComputeGradients(request, metadata=metadata)
        with gw.connect(server.address) as client:
            with client.stream(case.loss) as stream:
                stream(**case.arrays)
            with pytest.raises(gw.InvalidRequestError):
                client.value_and_grad(case.loss)(**case.arrays | {"w": np.zeros(1)})
        assert gradwire("health", server.address).returncode == 0
        # What is left goes when it ends.
        assert server.stop() == 0
        assert f'"trace_id": "{TRACE}"' in server.log
    calls = found.called("ComputeGradients")
    traced = [call for call in calls if call.trace_id.hex() == TRACE]
    assert len(traced) == 2
    for call in traced:
        assert call.parent_span_id.hex() == PARENT
        assert call.kind == Span.SPAN_KIND_SERVER
        attributes = {a.key: a.value.string_value or a.value.int_value for a in call.attributes}
        assert attributes == {
            "rpc.system": "grpc",
            "rpc.service": SERVICE,
            "rpc.method": "ComputeGradients",
            "rpc.grpc.status_code": 0,
            "gradwire.request_id": "of-the-test",
        }
        assert found.below(call)[-3:] == ["decode", "compute", "encode"]
        parts = [span for span in found.spans if span.parent_span_id == call.span_id]
        assert all(call.start_time_unix_nano <= s.start_time_unix_nano for s in parts)
        assert all(call.end_time_unix_nano >= s.end_time_unix_nano for s in parts)
    [refused] = [call for call in calls if call.attributes[-1].value.int_value == 3]
    assert set(found.below(refused)) == {"decode"}
    # A mistake of the caller is no error of the server.
    assert refused.status.code == Status.STATUS_CODE_UNSET
    [stream_span] = found.called("StreamGradients")
    # With several workers it may reach one that lacks its graph first.
    assert found.below(stream_span)[-3:] == ["decode", "compute", "send"]
    assert not [span for span in found.spans if "Health" in span.name]
    assert {resource["service.name"] for resource in found.resources} == {"gradwire"}
    assert {resource["service.version"] for resource in found.resources} == {VERSION}


def test_the_environment_names_the_service_and_a_collector_that_is_away_holds_nothing_up() -> None:
    environment = {
        **os.environ,
        "OTEL_TRACES_EXPORTER": "console,otlp",
        "OTEL_SERVICE_NAME": "mine",
        "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1",
    }
    with ServerProcess(environment=environment) as server, gw.connect(server.address) as client:
        client.info()
        server.process.terminate()
        written, _ = server.process.communicate(timeout=DEADLINE)
        assert server.process.returncode == 0
        assert '"service.name": "mine"' in written
        assert f'"name": "{SERVICE}/GetServerInfo"' in written


async def test_what_is_measured_leads_to_the_trace_if_it_is_kept() -> None:
    environment = {**os.environ, "OTEL_TRACES_EXPORTER": "console"}
    with ServerProcess(environment=environment) as server, channel(server.address) as opened:
        for method, kept in (("RegisterGraph", "00"), ("GetServerInfo", "01")):
            with suppress(grpc.RpcError):
                call: Any = opened.unary_unary(f"/{SERVICE}/{method}")
                call(b"", metadata=[("traceparent", f"00-{TRACE}-{PARENT}-{kept}")])
        await eventually(lambda: _exemplars(server) == {"GetServerInfo": TRACE})


def _exemplars(server: ServerProcess) -> dict[str, str]:
    """The trace that is named beside a bucket of each method."""
    opener = build_opener(ProxyHandler({}))
    opener.addheaders = [("Accept", "application/openmetrics-text; version=1.0.0")]
    with opener.open(server.metrics_url, timeout=DEADLINE) as response:
        page: str = response.read().decode()
    form = r'^grpc_server_handling_seconds_bucket\{.*grpc_method="(\w+)".*\} \S+ # \{trace_id="(\w+)"\} \S+'
    return dict(re.findall(form, page, re.MULTILINE))


@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"OTEL_TRACES_EXPORTER": "none", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
        {"OTEL_SDK_DISABLED": "true", "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"},
    ],
    ids=["unset", "none", "disabled"],
)
def test_nothing_is_imported_where_nobody_asks(environment: dict[str, str]) -> None:
    code = (
        "import sys; import gradwire_server.service.process.server\n"
        "from gradwire_server.service.telemetry.otel import Tracing\n"
        "with Tracing(): print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **environment}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        ({"OTEL_TRACES_EXPORTER": "zipkin"}, ["called zipkin", "OTEL_TRACES_EXPORTER", "otlp_proto_grpc"]),
        (
            {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/json"},
            ["called http/json", "OTEL_EXPORTER_OTLP_PROTOCOL"],
        ),
        (
            {"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            ["called otlp_proto_http", "pip install opentelemetry-exporter-otlp-proto-http"],
        ),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_TIMEOUT": "10s"}, ["cannot be set up", "'10s'"]),
    ],
)
def test_an_exporter_that_cannot_be_had_is_named(environment: dict[str, str], words: list[str]) -> None:
    done = gradwire("serve", "--port=0", "--metrics-port=0", **environment)
    assert (done.returncode, done.stdout) == (1, "")
    assert [word for word in words if word not in done.stderr] == [], done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_without_the_packages_it_says_what_to_install() -> None:
    code = "import sys; sys.modules['opentelemetry.sdk'] = None; from gradwire_server.__main__ import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", code, "serve", "--port=0", "--metrics-port=0"],
        env={**os.environ, "OTEL_TRACES_EXPORTER": "otlp"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert "pip install 'gradwire[otel]'" in done.stderr
    assert len(done.stderr.splitlines()) == 1
