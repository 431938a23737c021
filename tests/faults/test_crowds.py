"""Very many of what does no harm alone: calls, connections, graphs and names."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, ExitStack, suppress
from time import perf_counter
from typing import Any

import grpc
import h2.errors
import numpy as np
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server.service.process.server import STREAMS
from tests.faults.conftest import Faults
from tests.faults.crowd import percentile, rss
from tests.hostile.http2 import connected
from tests.hostile.memory import growth
from tests.hostile.messages import valid
from tests.hostile.test_connections import METHOD, PREFACE, check_serving
from tests.hostile.test_crowds import HELD, IN_FLIGHT, open_calls
from tests.integration.raw import SERVICE, channel
from tests.integration.server_process import DEADLINE, ServerProcess
from tests.integration.test_metrics import series
from tests.integration.test_service import tensors
from tests.integration.waiting import eventually
from tests.losses import perceptron

PENDING_BYTES = 32_000
"""What gRPC takes for a call that waits to be handed over."""

THREE = np.float64(3).tobytes()
"""The loss of a valid request."""


async def ask(address: str, calls: Iterator[tuple[str, bytes]]) -> Counter[grpc.StatusCode]:
    """Make calls, 64 at a time on four connections; how many ended how."""
    codes: Counter[grpc.StatusCode] = Counter()

    async def go_on(opened: grpc.aio.Channel) -> None:
        for path, request in calls:
            method: Any = opened.unary_unary(path)
            call = method(request)
            with suppress(grpc.aio.AioRpcError):
                await call
            codes[await call.code()] += 1

    async with AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        opened = [await stack.enter_async_context(grpc.aio.insecure_channel(address, options)) for _ in range(4)]
        await asyncio.gather(*(go_on(channel) for channel in 16 * opened))
    return codes


@pytest.mark.timeout(600)
async def test_calls_that_are_cancelled_in_their_midst_leave_nothing(faults: Faults) -> None:
    case, rounds, at_once = perceptron(20_000), faults.of(8, 200), 50
    request = pb.CheckGradientsRequest(graph=gw.graph(case.loss), tensors=tensors(case)).SerializeToString()
    with ServerProcess(flags=("--max-requests=100",)) as server:
        async with grpc.aio.insecure_channel(server.address) as opened:
            method: Any = opened.unary_unary(f"/{SERVICE}/CheckGradients")
            for _ in range(rounds):
                calls = [method(request) for _ in range(at_once)]
                await eventually(lambda: series(server)[IN_FLIGHT] >= 0.8 * at_once)
                for call in calls:
                    call.cancel()
                await asyncio.gather(*calls, return_exceptions=True)
                await eventually(lambda: series(server)[IN_FLIGHT] == 0)
        found = series(server)
        assert found[HELD] == found["gradwire_requests_in_flight_memory_bytes"] == open_calls(server) == 0
        stages = ("queued", "running")
        cancelled = sum(found[f'gradwire_requests_cancelled_total{{stage="{stage}"}}'] for stage in stages)
        assert cancelled >= 0.8 * rounds * at_once
        check_serving(server)
        assert server.stop() == 0
        assert "error" not in server.log
    faults.tell("calls cancelled in their midst", cancelled)


def test_calls_that_are_reset_at_once_leave_nothing(faults: Faults) -> None:
    count = faults.of(2 * STREAMS, 100_000)
    with ServerProcess() as server:
        with growth(server.process.pid) as taken:
            done, connections = 0, 0
            while done < count:
                connections += 1
                # The server may have had enough of a connection.
                with connected(server.address) as connection, suppress(ConnectionError):
                    while done < count:
                        stream = connection.http.get_next_available_stream_id()
                        connection.http.send_headers(stream, connection.headers(METHOD))
                        connection.http.reset_stream(stream, h2.errors.ErrorCodes.CANCEL)
                        done += 1
                        if done % 100 == 0:
                            connection.flush()
            check_serving(server)
        assert "gradwire_requests_in_flight 0.0" in server.metrics()
        found = series(server)
    # The rest of them gRPC refused.
    begun = sum(value for name, value in found.items() if name.startswith("grpc_server_started_total{"))
    assert begun <= connections * STREAMS + 1
    assert taken.nbytes < (32 << 20) + connections * STREAMS * PENDING_BYTES
    faults.tell("calls reset at once", done)
    faults.tell("connections on which they were", connections)
    faults.tell("memory of the server for them", taken.nbytes / 1e6, "MB")


async def test_a_burst_of_calls_is_answered_not_cancelled(faults: Faults) -> None:
    with ServerProcess() as server:
        async with grpc.aio.insecure_channel(server.address) as opened:
            call: Any = opened.unary_unary(f"/{SERVICE}/{METHOD}")
            calls = (call(valid()) for _ in range(faults.of(4000, 10_000)))
            answers = await asyncio.gather(*calls, return_exceptions=True)
    replies = [answer for answer in answers if isinstance(answer, bytes)]
    codes = {answer.code() for answer in answers if isinstance(answer, grpc.aio.AioRpcError)}
    assert codes <= {grpc.StatusCode.RESOURCE_EXHAUSTED}
    assert {pb.ComputeGradientsResponse.FromString(reply).loss.raw for reply in replies} == {THREE}
    faults.tell("calls at once", len(answers))
    faults.tell("of them answered, all right", len(replies))


@pytest.mark.timeout(300)
async def test_connections_and_calls_that_stand_still_hold_up_nobody(faults: Faults) -> None:
    # With those of a caller who does more there are as many as there may be.
    count, seconds = faults.of(900, 9990), []
    with ServerProcess() as server, ExitStack() as stack:
        for number in range(count):
            # Open, but silent; half a frame; a call whose message does not come.
            if number % 3 == 2:
                waiting = stack.enter_context(connected(server.address))
                stream = waiting.call(METHOD)
                waiting.http.send_data(stream, b"\0\0\0\0\x05a")
                waiting.flush()
                continue
            still = stack.enter_context(socket.create_connection(("127.0.0.1", server.port), DEADLINE))
            if number % 3:
                still.sendall(PREFACE + b"\0\0\x06")
        await eventually(lambda: open_calls(server) == count // 3)
        with channel(server.address) as opened:
            health: Any = health_pb2_grpc.HealthStub(opened)
            for _ in range(faults.of(20, 1000)):
                start = perf_counter()
                status = health.Check(health_pb2.HealthCheckRequest()).status
                seconds.append(perf_counter() - start)
                assert status == health_pb2.HealthCheckResponse.SERVING
        check_serving(server)
        assert "gradwire_requests_in_flight 0.0" in server.metrics()
    assert server.process.returncode == 0
    faults.tell("connections that stand still", count)
    faults.tell("p99 of the health beside them", 1e3 * percentile(seconds, 0.99), "ms", most=100)


@pytest.mark.timeout(600)
async def test_graphs_and_methods_without_end_leave_nothing(faults: Faults) -> None:
    graphs, names, limit = faults.of(500, 10_000), faults.of(1000, 50_000), 10_000_000
    graph = gw.graph(gw.sum(gw.parameter("w", shape=(3,)) * 2.0))
    [source] = [node for node in graph.nodes if node.HasField("parameter")]

    def registrations(word: str) -> Iterator[tuple[str, bytes]]:
        for number in range(graphs):
            source.name = f"{word}{number}"
            yield f"/{SERVICE}/RegisterGraph", pb.RegisterGraphRequest(graph=graph).SerializeToString()

    unknown = ((f"/{SERVICE}/Method{number}", b"") for number in range(names))
    with ServerProcess(flags=(f"--max-cache-bytes={limit}",)) as server:
        await ask(server.address, registrations("first"))
        metrics, before = set(series(server)), rss(server)
        assert await ask(server.address, registrations("second")) == {grpc.StatusCode.OK: graphs}
        found = series(server)
        assert found["gradwire_programs_cached_bytes"] <= limit
        assert 20 < found["gradwire_programs_cached"] < graphs
        assert await ask(server.address, unknown) == {grpc.StatusCode.UNIMPLEMENTED: names}
        assert set(series(server)) == metrics
        after = rss(server)
    faults.tell("graphs registered", 2 * graphs)
    faults.tell("methods that there are not", names)
    faults.tell("memory of the server after them", after / before, "x", most=1.05)
