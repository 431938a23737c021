"""Connections that break, and callers that stand still."""

from __future__ import annotations

import asyncio
import socket
import struct
from contextlib import AsyncExitStack, ExitStack
from itertools import chain, repeat
from threading import Event
from time import perf_counter
from typing import Any

import grpc
import numpy as np
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from tests.faults.conftest import Faults
from tests.faults.crowd import percentile, rss, until
from tests.hostile.memory import growth, resident
from tests.integration.proxy import NEVER, proxy
from tests.integration.raw import SERVICE
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import series
from tests.integration.test_service import tensors
from tests.losses import hinge, sum_of_squares

HALF = 32 << 20
IN_FLIGHT = "gradwire_requests_in_flight_bytes"


@pytest.mark.timeout(300)
async def test_a_connection_is_cut_in_the_middle_of_a_stream_of_64_mb(faults: Faults) -> None:
    case = sum_of_squares(8 << 20)
    expected = np.sum(case.arrays["w"] ** 2)
    cuts = faults.of(2, 20)
    with ServerProcess() as server:
        with gw.connect(server.address) as client:
            call = client.value_and_grad(case.loss)
            for _ in range(3):
                assert (await asyncio.to_thread(call, case.arrays))[0] == expected
        before = rss(server)
        async with proxy(server.address, limits=repeat(HALF)) as port:
            for _ in range(cuts):
                with gw.connect(f"127.0.0.1:{port}", max_attempts=1) as client:
                    call = client.value_and_grad(case.loss)
                    with pytest.raises(gw.UnavailableError, match=str(port)):
                        await asyncio.to_thread(call, case.arrays)
                await asyncio.to_thread(until, lambda: series(server)[IN_FLIGHT] == 0)
        faults.tell("memory of the server after them", rss(server) / before, "x", most=1.05)
        # A caller who tries again does not notice.
        async with proxy(server.address, limits=chain([HALF], repeat(NEVER))) as port:
            with gw.connect(f"127.0.0.1:{port}") as client:
                start = perf_counter()
                assert (await asyncio.to_thread(client.value_and_grad(case.loss), case.arrays))[0] == expected
        faults.tell("connections cut, all named or made again", cuts + 1)
        faults.tell("call that was made again", perf_counter() - start, "s")
        # What was freed goes back to the system within seconds.
        until(lambda: rss(server) < before + HALF)


@pytest.mark.timeout(300)
async def test_large_messages_of_which_half_is_sent(faults: Faults) -> None:
    message, count = bytes(100 << 20), faults.of(6, 50)
    with ServerProcess() as server:
        with gw.connect(server.address) as client:
            client.value_and_grad(hinge().loss)(hinge().arrays)
        before = resident(server.process.pid)
        with growth(server.process.pid) as taken:
            for _ in range(count):
                async with AsyncExitStack() as stack:
                    port = await stack.enter_async_context(proxy(server.address, limits=repeat(len(message) - 1)))
                    channel = await stack.enter_async_context(grpc.aio.insecure_channel(f"127.0.0.1:{port}"))
                    method: Any = channel.unary_unary(f"/{SERVICE}/ComputeGradients")
                    with pytest.raises(grpc.aio.AioRpcError, match="UNAVAILABLE"):
                        await method(message)
            # What is free is given back after a while.
            await asyncio.to_thread(until, lambda: resident(server.process.pid) < 1.05 * before)
        assert taken.nbytes > len(message) / 2
        faults.tell("messages", count)
        faults.tell("memory of the server meanwhile", (before + taken.nbytes) / before, "x")
        faults.tell("memory of the server after them", resident(server.process.pid) / before, "x", most=1.05)


def _p99(call: gw.ValueAndGrad, arrays: Any, count: int) -> float:
    seconds = []
    for _ in range(count):
        start = perf_counter()
        call(arrays)
        seconds.append(perf_counter() - start)
    return percentile(seconds, 0.99)


@pytest.mark.timeout(600)
def test_streams_that_are_idle_or_not_read(faults: Faults) -> None:
    streams, calls = faults.of(10, 200), faults.of(100, 3000)
    small, large = hinge(), sum_of_squares(100_000)
    frame = pb.StreamGradientsRequest(
        head=pb.StreamRequestHead(
            request=pb.ComputeGradientsRequest(
                graph=gw.graph(large.loss),
                tensors={"w": tensor_pb2.Tensor(shape=[100_000], raw=large.arrays["w"].tobytes())},
            )
        )
    ).SerializeToString()
    server = ServerProcess(flags=("--max-stall=600",))
    with server, gw.connect(server.address) as client, ExitStack() as stack:
        call = client.value_and_grad(small.loss)
        call(small.arrays)
        alone = _p99(call, small.arrays, calls)
        hold = Event()
        stack.callback(hold.set)
        held = []
        for number in range(2 * streams):
            if number % 20 == 0:
                # The window of each stream stays at 64 KiB.
                options = [("grpc.use_local_subchannel_pool", 1), ("grpc.http2.bdp_probe", 0)]
                opened = stack.enter_context(grpc.insecure_channel(server.address, options))
            method: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
            # The client takes the first answer by itself.
            frames = [frame] * 3 if number % 2 else []
            held.append(method(chain(frames, iter(hold.wait, True))))
        labels = 'grpc_method="StreamGradients",grpc_service="gradwire.v1.GradientService",grpc_type="bidi_stream"'
        until(lambda: series(server)[f"grpc_server_started_total{{{labels}}}"] == len(held))
        # Each that is not read stands in a write, and nothing is computed any more.
        until(lambda: series(server)[IN_FLIGHT] >= streams * large.arrays["w"].nbytes)
        beside = _p99(call, small.arrays, calls)
        faults.tell("idle streams, and as many that are not read", streams)
        faults.tell("memory that they hold", series(server)[IN_FLIGHT] / 1e6, "MB")
        faults.tell("p99 of a small call alone", 1e3 * alone, "ms")
        faults.tell("p99 of a small call beside them", beside / alone, "x", most=1.5)
        for stream in held:
            stream.cancel()
        until(lambda: series(server)[IN_FLIGHT] == 0)


def _dropped(port: int) -> None:
    """A connection that sends half of what it should, and is reset."""
    with socket.create_connection(("127.0.0.1", port)) as dropped:
        dropped.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9) + b"\x00\x10\x00\x00")
        dropped.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _streamed(server: ServerProcess, frame: bytes, calls: int) -> None:
    """Calls of a stream, of which as many are under way as its windows hold."""
    with grpc.insecure_channel(server.address) as opened:
        method: Any = opened.stream_stream(f"/{SERVICE}/StreamGradients")
        assert sum(1 for _ in method(repeat(frame, calls))) == calls


async def _unary(server: ServerProcess, request: bytes, calls: int) -> None:
    """Calls of their own, 32 at a time on four connections: what takes them, not what makes them, bounds their rate."""
    lacking = iter(range(calls))

    async def ask(method: Any) -> None:
        for _ in lacking:
            await method(request)

    async with AsyncExitStack() as stack:
        options = [("grpc.use_local_subchannel_pool", 1)]
        opened = [await stack.enter_async_context(grpc.aio.insecure_channel(server.address, options)) for _ in range(4)]
        methods: list[Any] = [channel.unary_unary(f"/{SERVICE}/ComputeGradients") for channel in opened]
        await asyncio.gather(*(ask(method) for method in 8 * methods))


@pytest.mark.timeout(3600)
def test_memory_stays_where_it_is(faults: Faults) -> None:
    case = hinge()
    rounds = (
        ("small calls, half of them on streams", faults.of(2000, 1_000_000)),
        ("registrations", faults.of(200, 10_000)),
        ("dropped connections", faults.of(50, 1000)),
    )
    with ServerProcess(flags=("--max-cache-bytes=2000000",)) as server, gw.connect(server.address) as client:
        message = pb.ComputeGradientsRequest(graph_id=client.register(case.loss), tensors=tensors(case))
        request = message.SerializeToString()
        frame = pb.StreamGradientsRequest(head=pb.StreamRequestHead(request=message)).SerializeToString()

        def go_on(share: float) -> None:
            (_, calls), (_, registrations), (_, drops) = rounds
            client.register(case.loss)
            _streamed(server, frame, int(share * calls / 2))
            asyncio.run(_unary(server, request, int(share * calls / 2)))
            for number in range(int(share * registrations)):
                client.register(gw.parameter("w", shape=(3,)).sum() * float(number + share))
            for _ in range(int(share * drops)):
                _dropped(server.port)
            client.info()

        go_on(0.1)
        before = rss(server)
        go_on(0.9)
        computed = series(server)["gradwire_examples_processed_total"]
        assert computed == sum(2 * int(share * rounds[0][1] / 2) for share in (0.1, 0.9)) * len(case.arrays["y"])
        for what, count in rounds:
            faults.tell(what, count)
        faults.tell("memory of the server after them", rss(server) / before, "x", most=1.05)
