"""The service behind Ray Serve, in a cluster of its own with two replicas, started as the documentation says."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from subprocess import run
from sys import executable
from threading import Event
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.integration.raw import SERVICE, channel, refused
from tests.integration.ray_serve_process import STARTING, RayServe, page, ray_serve
from tests.integration.waiting import eventually
from tests.losses import Case, hinge, perceptron

# A cluster begins first, in half a minute where nothing else runs.
pytestmark = [pytest.mark.cluster, pytest.mark.timeout(2 * STARTING)]

TOKEN = "a-token-that-nobody-guesses"  # noqa: S105  (of the tests)
ID = "an-id-of-the-caller"
BEARER = (("authorization", f"Bearer {TOKEN}"), ("x-request-id", ID))
MAX_NODES = 1000

INVALID, NOT_FOUND = grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RayServe]:
    """Two replicas that serve whoever has the token."""
    tokens = tmp_path_factory.mktemp("ray") / "tokens"
    tokens.write_text(TOKEN)
    with ray_serve(2, tokens_file=str(tokens), max_examples=2**31, max_nodes=MAX_NODES) as found:
        found.wait_for(2)
        yield found


@pytest.fixture
def client(service: RayServe) -> Iterator[gw.Client]:
    with gw.connect(service.address, token=TOKEN) as connected:
        yield connected


def tensors(case: Case) -> dict[str, tensor_pb2.Tensor]:
    return {
        name: tensor_pb2.Tensor(shape=array.shape, raw=np.asarray(array, np.float64).tobytes())
        for name, array in case.arrays.items()
    }


@pytest.mark.parametrize("case", [hinge(), perceptron()], ids=["hinge", "perceptron"])
def test_calls_and_streams_give_the_bits_of_the_engine_here(client: gw.Client, case: Case) -> None:
    with gw.connect("local") as local:
        expected, gradients = local.value_and_grad(case.loss)(case.arrays)
    call = client.value_and_grad(case.loss)
    with client.stream(case.loss) as stream:
        answers = [call(case.arrays) for _ in range(4)] + [stream(case.arrays) for _ in range(4)]
    for value, found in answers:
        assert value == expected
        np.testing.assert_equal(found, gradients)


async def test_the_client_of_asyncio_is_served_too(service: RayServe) -> None:
    case = hinge()
    async with gw.AsyncClient(service.address, token=TOKEN) as client:
        value, _ = await client.value_and_grad(case.loss)(case.arrays)
        info = await client.info()
    with gw.connect("local") as local:
        assert value == local.value_and_grad(case.loss)(case.arrays)[0]
    assert info.limits["max_nodes"] == MAX_NODES


def test_large_arrays_travel_there_and_back(client: gw.Client) -> None:
    w = gw.parameter("w", shape=(4_000_000,))
    value, gradients = client.value_and_grad(gw.sum(w * w))(w=np.ones(4_000_000))
    assert value == 4_000_000
    np.testing.assert_array_equal(gradients["w"], 2)


def test_examples_are_kept(client: gw.Client) -> None:
    case = hinge(examples=1000)
    w = case.arrays.pop("w")
    data = client.examples(case.arrays)
    call = client.value_and_grad(case.loss)
    for rows in (slice(0, 100), slice(50, 1000)):
        value, _ = call(w=w, examples=data[rows])
        margin = case.arrays["phi"][rows] @ w * case.arrays["y"][rows]
        assert value == pytest.approx(np.maximum(0, 1 - margin).mean())


REFUSED = {
    "bytes that do not parse": ("ComputeGradients", b"\xff", BEARER, INVALID, "MALFORMED_MESSAGE"),
    "no graph": ("ComputeGradients", b"", BEARER, INVALID, "GRAPH_MISSING"),
    "an unknown graph": (
        "ComputeGradients",
        pb.ComputeGradientsRequest(graph_id="0" * 64).SerializeToString(),
        BEARER,
        NOT_FOUND,
        "GRAPH_NOT_FOUND",
    ),
    "no token": ("GetServerInfo", b"", BEARER[1:], grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED"),
}


@pytest.mark.parametrize(("method", "request_", "metadata", "code", "reason"), REFUSED.values(), ids=REFUSED)
def test_a_refusal_comes_with_its_reason_and_the_id_of_its_call(
    service: RayServe, method: str, request_: bytes, metadata: Any, code: grpc.StatusCode, reason: str
) -> None:
    with channel(service.address) as opened:
        call: Any = opened.unary_unary(f"/{SERVICE}/{method}")
        with pytest.raises(grpc.RpcError) as raised:
            call(request_, metadata=metadata)
    found = refused(raised.value)
    assert (found.code, found.reason) == (code, reason)
    trailers: Any = raised.value.trailing_metadata()
    assert dict(trailers)["x-request-id"] == ID


def test_errors_name_what_is_wrong(client: gw.Client) -> None:
    case = hinge()
    call = client.value_and_grad(case.loss)
    with pytest.raises(gw.InvalidRequestError, match=r'"w" has shape \(4,\); expected \(3,\)') as wrong:
        call(case.arrays | {"w": np.ones(4)})
    assert wrong.value.reason == "INVALID_TENSOR"
    with client.stream(case.loss) as stream, pytest.raises(gw.InvalidRequestError, match=r"expected \(3,\)"):
        stream(case.arrays | {"w": np.ones(4)})
    w = gw.parameter("w")
    with pytest.raises(gw.LimitExceededError) as many:
        client.register(sum((gw.sin(w + number) for number in range(MAX_NODES)), w))
    assert many.value.metadata["setting"] == "max_nodes"


def test_a_stream_that_makes_no_sense_ends_with_its_reason(service: RayServe) -> None:
    with channel(service.address) as opened:
        call: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        with pytest.raises(grpc.RpcError) as raised:
            list(call(iter([pb.StreamGradientsRequest(tag=7).SerializeToString()]), metadata=BEARER))
    assert (refused(raised.value).code, refused(raised.value).reason) == (INVALID, "INVALID_FRAME")


def test_there_is_no_other_method(service: RayServe) -> None:
    with channel(service.address) as opened:
        call: Any = opened.unary_unary(f"/{SERVICE}/Invert")
        with pytest.raises(grpc.RpcError) as raised:
            call(b"", metadata=BEARER)
    assert raised.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_health_is_open_to_all(service: RayServe) -> None:
    done = run(
        [executable, "-m", "gradwire_server", "health", service.address], capture_output=True, text=True, check=True
    )
    assert done.stdout == "SERVING\n"
    with channel(service.address) as opened:
        health: Any = health_pb2_grpc.HealthStub(opened)
        watch = health.Watch(health_pb2.HealthCheckRequest(service=SERVICE))
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
        watch.cancel()


async def test_a_deadline_stops_the_work_and_ray_tells_prometheus(service: RayServe) -> None:
    # Empty examples are much work in few bytes.
    loss = gw.sum(gw.input("x", shape=(0,), per_example=True)) + gw.parameter("w")
    arrays = {"x": tensor_pb2.Tensor(shape=[2**31, 0]), "w": tensor_pb2.Tensor(values=[1.0])}
    request = pb.ComputeGradientsRequest(graph=gw.graph(loss), tensors=arrays)
    with channel(service.address) as opened:
        call: Any = opened.unary_unary(f"/{SERVICE}/ComputeGradients")
        with pytest.raises(grpc.RpcError) as raised:
            call(request.SerializeToString(), metadata=BEARER, timeout=1)
    assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED

    def counted(name: str, label: str) -> float:
        lines = re.findall(rf"^ray_{name}{{.*{label}.*}} (\S+)$", page(service.metrics_url), re.MULTILINE)
        return sum(map(float, lines))

    await eventually(lambda: counted("gradwire_requests_cancelled_total", 'stage="running"') == 1)
    assert counted("grpc_server_handled_total", 'grpc_code="Unauthenticated"') > 0


def test_no_call_fails_when_a_replica_is_killed(service: RayServe) -> None:
    case = perceptron()
    stop, begun = Event(), [Event() for _ in range(6)]

    def work(number: int) -> int:
        calls = 0
        with gw.connect(service.address, token=TOKEN) as client, client.stream(case.loss) as stream:
            call = stream if number % 2 else client.value_and_grad(case.loss)
            while not stop.is_set():
                call(case.arrays)
                calls += 1
                if calls == 20:
                    begun[number].set()
        return calls

    with ThreadPoolExecutor(len(begun)) as pool:
        working = [pool.submit(work, number) for number in range(len(begun))]
        for each in begun:
            assert each.wait(60)
        before = service.replicas()
        before[0].send_signal(signal.SIGKILL)
        before[0].wait(60)
        service.wait_for(2, without=before[0].pid)
        stop.set()
        assert all(future.result() > 20 for future in working)
