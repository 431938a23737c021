"""Callers who are slow, or too many: what they hold is bounded in number, bytes and time, and the others go on."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from threading import Event
from typing import Any
from urllib.request import ProxyHandler, build_opener

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.hostile.http2 import Connection, connected
from tests.hostile.memory import growth
from tests.hostile.messages import valid
from tests.integration.raw import SERVICE, Refused, channel, send
from tests.integration.server_process import DEADLINE, READY, ServerProcess, beginning
from tests.integration.test_metrics import series
from tests.integration.waiting import eventually
from tests.losses import products, sum_of_squares

METHOD = "ComputeGradients"
IN_FLIGHT = "gradwire_requests_in_flight"
HELD = "gradwire_requests_in_flight_bytes"


def open_calls(server: ServerProcess) -> float:
    found = series(server)
    return sum(
        value if name.startswith("grpc_server_started_total{") else -value
        for name, value in found.items()
        if name.startswith(("grpc_server_started_total{", "grpc_server_handled_total{"))
    )


def little_for_much(size: int) -> Any:
    """A request of few bytes for the product of a column and a row."""
    case = products(size)
    tensors = {name: tensor_pb2.Tensor(shape=array.shape, raw=array.tobytes()) for name, array in case.arrays.items()}
    column, row = gw.parameter("a", shape=(size, 1)), gw.parameter("b", shape=(1, size))
    return pb.ComputeGradientsRequest(graph=gw.graph(gw.sum(column * row)), tensors=tensors, outputs=[2])


@pytest.mark.parametrize("method", ["GetServerInfo", METHOD])
def test_a_message_that_drips_in_is_not_waited_for_for_ever(method: str) -> None:
    with ServerProcess(flags=("--max-arrival=0.5", "--max-requests=1")) as server:
        with connected(server.address) as connection:
            stream = connection.call(method)
            connection.http.send_data(stream, b"\0\0\1\0\0")

            def drip() -> None:
                connection.http.send_data(stream, b"\xff")
                connection.flush()
                # Whatever is still to come of it, no request is under way.
                assert series(server)[IN_FLIGHT] == 0

            told = connection.trailers(stream, drip)
        assert told["grpc-status"] == "4"
        assert "0.5 s (max_arrival)" in told["grpc-message"]
        found = series(server)
        assert found['gradwire_requests_cancelled_total{stage="receiving"}'] == 1
        assert found['gradwire_refused_total{reason="DEADLINE_EXCEEDED"}'] == 1
        with channel(server.address) as opened:
            assert isinstance(send(opened, METHOD, valid()), bytes)


def test_a_request_that_drips_into_a_stream_ends_it() -> None:
    announced = pb.StreamRequestHead(
        request=pb.ComputeGradientsRequest(graph=gw.graph(sum_of_squares(100_000).loss)),
        framed=[pb.FramedTensor(name="w", shape=[100_000])],
    )
    with ServerProcess(flags=("--max-stall=0.5",)) as server, connected(server.address) as connection:
        stream = connection.call("StreamGradients")
        connection.message(stream, pb.StreamGradientsRequest(head=announced).SerializeToString(), end=False)
        piece = pb.StreamGradientsRequest(chunk=b"\0").SerializeToString()
        told = connection.trailers(stream, lambda: connection.message(stream, piece, end=False))
        assert told["grpc-status"] == "4"
        assert "0.5 s (max_stall)" in told["grpc-message"]
        assert series(server)[HELD] == 0


async def test_calls_beyond_the_limit_are_turned_away_whatever_the_others_wait_for() -> None:
    with ServerProcess(flags=("--max-calls=30",)) as server, ExitStack() as stack:
        opened = stack.enter_context(channel(server.address))
        hold = Event()
        stack.callback(hold.set)
        whole: Any = opened.stream_unary(f"/{SERVICE}/{METHOD}")
        stream: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        watch: Any = opened.stream_stream("/grpc.health.v1.Health/Watch")
        held = [start(iter(hold.wait, True)) for start in (whole.future, stream, watch) for _ in range(10)]
        await eventually(lambda: open_calls(server) == 30)
        for service, method in ((SERVICE, METHOD), (SERVICE, "GetServerInfo"), ("nobody", "Nothing")):
            answer = send(opened, method, valid(), service=service)
            assert isinstance(answer, Refused)
            assert (answer.code, answer.reason, answer.retry) == (
                grpc.StatusCode.RESOURCE_EXHAUSTED,
                "OVERLOADED",
                True,
            )
            assert answer.metadata["setting"] == "max_calls"
        assert series(server)['gradwire_requests_refused_total{resource="calls"}'] == 3
        for call in held:
            call.cancel()
        await eventually(lambda: open_calls(server) == 0)
        assert isinstance(send(opened, METHOD, valid()), bytes)


async def test_connections_beyond_the_limit_are_closed_and_the_others_go_on() -> None:
    with ServerProcess(flags=("--max-connections=20",)) as server, channel(server.address) as opened:
        assert isinstance(send(opened, METHOD, valid()), bytes)
        with ExitStack() as stack:
            silent = [
                stack.enter_context(socket.create_connection(("127.0.0.1", server.port), DEADLINE)) for _ in range(60)
            ]

            def closed() -> int:
                return sum(is_closed(each) for each in silent)

            await eventually(lambda: closed() >= 41)
            health: Any = health_pb2_grpc.HealthStub(opened)
            assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
            assert isinstance(send(opened, METHOD, valid()), bytes)
            assert closed() == 41

        def comes_in() -> bool:
            with channel(server.address) as other:
                return isinstance(send(other, METHOD, valid()), bytes)

        await eventually(comes_in)


async def test_where_few_files_may_be_open_callers_and_probes_are_answered_all_the_same() -> None:
    with beginning(line='ulimit -n 400; exec "$@"') as process, ExitStack() as stack:
        assert process.stdout is not None
        ready = READY.fullmatch(process.stdout.readline())
        assert ready is not None
        with gw.connect(ready[1]) as client:
            most = client.info().limits["max_connections"]
            assert most == 150
            silent = [
                stack.enter_context(socket.create_connection(("127.0.0.1", int(ready[2])), DEADLINE))
                for _ in range(500)
            ]
            # Those beyond the limit are closed, not kept waiting.
            await eventually(lambda: sum(is_closed(each) for each in silent) == 500 - most + 1)
            assert client.info().version
            for page in ("livez", "readyz", "metrics"):
                with build_opener(ProxyHandler({})).open(ready[3].replace("metrics", page), timeout=DEADLINE) as answer:
                    assert answer.status == 200
        process.terminate()
        process.communicate(timeout=DEADLINE)
        assert process.returncode == 0


def is_closed(connection: socket.socket) -> bool:
    """Whether the other end hung up."""
    connection.setblocking(False)
    try:
        while connection.recv(1 << 16):
            pass
    except BlockingIOError:
        return False
    except ConnectionError:
        return True
    return True


async def test_what_streams_hold_for_those_who_do_not_read_is_a_response_each_and_counted() -> None:
    streams, request = 10, little_for_much(200)
    frame = pb.StreamGradientsRequest(head=pb.StreamRequestHead(request=request)).SerializeToString()
    with ServerProcess() as server, ExitStack() as stack:
        connections: list[Connection] = []
        with growth(server.process.pid) as taken:
            for _ in range(streams):
                connection = stack.enter_context(connected(server.address))
                connections.append(connection)
                stream = connection.call("StreamGradients")
                # Its window is that of HTTP/2, of 64 KiB, and does not open again.
                for _ in range(15):
                    connection.message(stream, frame, end=False)
            await eventually(lambda: series(server)[HELD] >= streams * 320_000)
        assert series(server)[HELD] < streams * 330_000
        assert taken.nbytes < 32 << 20
        with channel(server.address) as opened:
            assert isinstance(send(opened, METHOD, valid()), bytes)
        for connection in connections:
            connection.socket.close()
        await eventually(lambda: series(server)[HELD] == 0)


async def test_a_watch_that_nobody_reads_does_not_hold_up_the_end() -> None:
    with ServerProcess(flags=("--grace=0.5",)) as server, connected(server.address, window=0) as connection:
        stream = connection.http.get_next_available_stream_id()
        headers = dict(connection.headers("Watch")) | {":path": "/grpc.health.v1.Health/Watch"}
        connection.http.send_headers(stream, list(headers.items()))
        connection.message(stream, b"")
        await eventually(lambda: open_calls(server) == 1)
        with channel(server.address) as opened:
            health: Any = health_pb2_grpc.HealthStub(opened)
            assert health.Check(health_pb2.HealthCheckRequest()).status == health_pb2.HealthCheckResponse.SERVING
        assert server.stop() == 0


def test_a_flood_of_graphs_pushes_out_the_oldest_and_keeps_what_is_used() -> None:
    limit = 10_000_000
    with ServerProcess(flags=(f"--max-cache-bytes={limit}",)) as server, channel(server.address) as opened:

        def register(name: str) -> str:
            graph = gw.graph(gw.sum(gw.parameter(name, shape=(3,)) * 2.0))
            answer = send(opened, "RegisterGraph", pb.RegisterGraphRequest(graph=graph))
            assert isinstance(answer, bytes)
            return pb.RegisterGraphResponse.FromString(answer).graph_id

        def use(graph_id: str, name: str) -> bytes | Refused:
            tensors = {name: tensor_pb2.Tensor(shape=[3], values=[1, 2, 3])}
            return send(opened, METHOD, pb.ComputeGradientsRequest(graph_id=graph_id, tensors=tensors))

        hot, cold = register("hot"), register("cold")

        def flood(name: str) -> None:
            for number in range(500):
                register(f"{name}{number}")
                if number % 10 == 0:
                    assert isinstance(use(hot, "hot"), bytes)

        flood("w")
        with growth(server.process.pid) as taken:
            flood("v")
        found = series(server)
        assert found["gradwire_programs_cached_bytes"] <= limit
        assert 20 < found["gradwire_programs_cached"] < 500
        assert taken.nbytes < limit
        answer = use(cold, "cold")
        assert isinstance(answer, Refused)
        assert answer.code is grpc.StatusCode.NOT_FOUND
