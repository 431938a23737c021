"""The standard services: health and reflection."""

from __future__ import annotations

import contextlib
import itertools
import queue
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import graph_pb2, tensor_pb2
from tests.integration.raw import SERVICE, channel, stub
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import series
from tests.integration.test_service import tensors
from tests.integration.waiting import eventually
from tests.losses import endless

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING


@pytest.fixture
def health(server: ServerProcess) -> Iterator[Any]:
    with channel(server.address) as opened:
        yield health_pb2_grpc.HealthStub(opened)


@pytest.mark.parametrize("service", ["", SERVICE])
def test_it_is_serving(health: Any, service: str) -> None:
    assert health.Check(health_pb2.HealthCheckRequest(service=service)).status == SERVING


def test_a_service_that_is_not_there_is_not_found(health: Any) -> None:
    with pytest.raises(grpc.RpcError, match=f'"nobody".*"{SERVICE}"') as raised:
        health.Check(health_pb2.HealthCheckRequest(service="nobody"))
    error: Any = raised.value
    assert error.code() is grpc.StatusCode.NOT_FOUND


def test_a_large_gradient_does_not_delay_it(server: ServerProcess, health: Any) -> None:
    case = endless()
    with channel(server.address) as opened:
        request = pb.ComputeGradientsRequest(graph=gw.graph(case.loss), tensors=tensors(case))
        busy = stub(opened).ComputeGradients.future(request)
        while "gradwire_requests_in_flight 1.0" not in server.metrics():
            assert not busy.done()
        for _ in range(20):
            assert health.Check(health_pb2.HealthCheckRequest()).status == SERVING
        assert not busy.done()
        busy.cancel()


def many_operands() -> bytes:
    product = graph_pb2.Node(mul=graph_pb2.Mul(operands=[0] * 1_000_000))
    graph = graph_pb2.Graph(nodes=[graph_pb2.Node(name="w", parameter=graph_pb2.Parameter()), product], loss=1)
    request = pb.ComputeGradientsRequest(graph=graph, tensors={"w": tensor_pb2.Tensor(values=[1])})
    return bytes(pb.StreamGradientsRequest(head=pb.StreamRequestHead(request=request)).SerializeToString())


def many_names() -> bytes:
    framed = [pb.FramedTensor(name=f"t{number}", shape=[0, number]) for number in range(30_000)]
    return bytes(pb.StreamGradientsRequest(head=pb.StreamRequestHead(framed=framed)).SerializeToString())


@pytest.mark.parametrize("frame", [many_operands, many_names])
def test_a_request_that_takes_long_to_check_does_not_delay_it(frame: Callable[[], bytes]) -> None:
    """A server that checked requests where it answers probes would answer about one request for each probe."""
    with ServerProcess() as server, channel(server.address) as opened:
        health: Any = health_pb2_grpc.HealthStub(opened)
        method: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        request, responses = frame(), queue.SimpleQueue[bytes]()
        call = method(itertools.repeat(request))
        reader = threading.Thread(target=read_until_cancelled, args=(call, responses))
        reader.start()
        responses.get()
        for _ in range(20):
            assert health.Check(health_pb2.HealthCheckRequest()).status == SERVING
        answered = responses.qsize()
        call.cancel()
        reader.join()
        assert call.code() is grpc.StatusCode.CANCELLED
        assert answered < 10


def read_until_cancelled(call: Any, responses: queue.SimpleQueue[bytes]) -> None:
    with contextlib.suppress(grpc.RpcError):
        for response in call:
            responses.put(response)


async def test_a_watch_sees_the_drain_whoever_watched_before() -> None:
    with ServerProcess() as server, channel(server.address) as opened:
        stub: Any = health_pb2_grpc.HealthStub(opened)
        watch, other = (stub.Watch(health_pb2.HealthCheckRequest(service=SERVICE)) for _ in range(2))
        assert next(watch).status == next(other).status == SERVING
        other.cancel()
        ended = 'grpc_server_handled_total{grpc_code="Canceled",grpc_method="Watch"'
        await eventually(lambda: any(name.startswith(ended) for name, count in series(server).items() if count))
        server.process.terminate()
        assert next(watch).status == NOT_SERVING
        with pytest.raises(grpc.RpcError):
            next(watch)
        assert server.wait() == 0


def test_a_watch_of_a_service_that_is_not_there_says_so_and_goes_on(health: Any) -> None:
    watch = health.Watch(health_pb2.HealthCheckRequest(service="nobody"))
    assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
    assert watch.is_active()
    watch.cancel()


def test_reflection_describes_the_service(server: ServerProcess) -> None:
    with channel(server.address) as opened:
        database = ProtoReflectionDescriptorDatabase(opened)
        assert set(database.get_services()) == {
            SERVICE,
            "grpc.health.v1.Health",
            "grpc.reflection.v1alpha.ServerReflection",
        }
        described = database.FindFileContainingSymbol(SERVICE)
        assert described.name == "gradwire/v1/gradient_service.proto"
