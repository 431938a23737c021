"""Answers that nobody reads: what they hold is counted and bounded, and goes when their time is over."""

from __future__ import annotations

import json
from contextlib import ExitStack
from functools import partial
from threading import Semaphore, Thread
from typing import Any

import grpc
import h2.events
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1 import tensor_pb2
from gradwire_server.engine.run.idle import IDLE_BYTES
from tests.hostile.http2 import Connection, connected
from tests.hostile.memory import growth, resident
from tests.hostile.messages import valid
from tests.hostile.test_crowds import HELD, IN_FLIGHT, METHOD, open_calls
from tests.integration.raw import SERVICE, channel, send
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import series
from tests.integration.waiting import eventually

SENDING = 'gradwire_requests_cancelled_total{stage="sending"}'
RECEIVED = "grpc_server_msg_received_total"
SIDE = 32
REPLY = SIDE**4 * 8
"""Bytes of a response, some 8 MB, for a request of less than 1 KB."""

METHODS = [METHOD, "TraceGraph", "StreamGradients"]


def request_of(method: str, side: int = SIDE) -> bytes:
    """A request for a matrix of so many by so many numbers, each squared."""
    column, row = gw.parameter("a", shape=(side, 1)), gw.parameter("b", shape=(1, side))
    product = column * row
    large = gw.reshape(product, (side**2, 1)) * gw.reshape(product, (1, side**2))
    shapes = {"a": (side, 1), "b": (1, side)}
    fields: Any = {
        "graph": gw.graph(gw.sum(large)),
        "tensors": {name: tensor_pb2.Tensor(shape=shape, values=[1] * side) for name, shape in shapes.items()},
    }
    message: Any = pb.TraceGraphRequest(**fields)
    if method != "TraceGraph":
        message = pb.ComputeGradientsRequest(**fields, outputs=[5])
    if method == "StreamGradients":
        message = pb.StreamGradientsRequest(head=pb.StreamRequestHead(request=message))
    raw: bytes = message.SerializeToString()
    return raw


class Unread:
    """Calls on one connection, whose pings are answered and whose windows never open again."""

    def __init__(self, connection: Connection, method: str, raw: bytes) -> None:
        self._connection = connection
        self._method, self._raw = method, raw
        self._calls = Semaphore(0)
        """Calls that are still to be made."""
        self.codes: list[str] = []
        self._thread = Thread(target=self._listen)
        self._thread.start()

    def call(self, count: int = 1) -> None:
        """Make so many calls."""
        self._calls.release(count)

    def _meanwhile(self) -> None:
        while self._calls.acquire(blocking=False):
            stream = self._connection.call(self._method)
            self._connection.message(stream, self._raw, end=self._method != "StreamGradients")

    def _listen(self) -> None:
        for event in self._connection.events(self._meanwhile):
            if isinstance(event, h2.events.TrailersReceived | h2.events.ResponseReceived):
                self.codes += [str(value) for key, value in event.headers if key == "grpc-status"]

    def close(self) -> None:
        """Hang up."""
        self._connection.socket.shutdown(2)
        self._thread.join()


def came(server: ServerProcess, method: str) -> float:
    """Messages of a method that have come."""
    found = series(server)
    return sum(found[name] for name in found if name.startswith(f'{RECEIVED}{{grpc_method="{method}"'))


def is_answered(server: ServerProcess, method: str, count: float) -> bool:
    """Whether so many messages have come, and nothing is computed any more."""
    return came(server, method) == count and series(server)[IN_FLIGHT] == 0


def is_sent(server: ServerProcess) -> bool:
    """Whether an answer is on its way, and all else is done."""
    # A page that is made while the request begins shows a part of it.
    return all(found[HELD] > 0 == found[IN_FLIGHT] for found in (series(server), series(server)))


def is_sent_or_done(server: ServerProcess, call: Any) -> bool:
    return is_sent(server) or bool(call.done())


def has_cancelled(server: ServerProcess, calls: float) -> bool:
    return series(server)[SENDING] == calls


@pytest.mark.parametrize("method", METHODS)
async def test_they_hold_what_may_be_held_and_no_more(method: str) -> None:
    calls, most = 24, 80_000_000
    flags = ("--max-memory-in-flight=120000000", f"--max-bytes-in-flight={most}", "--max-stall=600")
    with ServerProcess(flags=flags) as server, connected(server.address) as connection:
        with channel(server.address) as opened:
            assert isinstance(send(opened, METHOD, request_of(METHOD, 10)), bytes)
        with growth(server.process.pid) as taken:
            unread = Unread(connection, method, request_of(method))
            before = came(server, method)
            for number in range(1, calls + 1):
                unread.call()
                # One after another, or most of them would be refused for the memory of the computations.
                await eventually(partial(is_answered, server, method, before + number))
        refused = series(server)['gradwire_requests_refused_total{resource="bytes"}']
        assert calls / 3 < refused < calls
        assert series(server)[HELD] <= most
        # As the page for operators says, and some for what comes and goes meanwhile.
        assert taken.nbytes < 120_000_000 + most + (64 << 20)
        with channel(server.address) as opened:
            assert isinstance(send(opened, METHOD, valid()), bytes)
        unread.close()
        await eventually(lambda: series(server)[HELD] == 0 == open_calls(server))


@pytest.mark.parametrize("method", METHODS)
async def test_they_go_when_their_time_is_over_whatever_else_the_connection_does(method: str) -> None:
    calls = 24
    with ServerProcess(flags=("--max-stall=1",)) as server, connected(server.address) as connection:
        with channel(server.address) as opened:
            # gRPC keeps the first call and the last one for longer.
            assert isinstance(send(opened, METHOD, valid()), bytes)
            before = resident(server.process.pid)
            unread = Unread(connection, method, request_of(method))
            unread.call(calls)
            await eventually(lambda: series(server)[SENDING] == calls)
            await eventually(lambda: series(server)[HELD] == 0 == open_calls(server))
            assert isinstance(send(opened, METHOD, valid()), bytes)
            await eventually(lambda: resident(server.process.pid) < before + 2 * REPLY + IDLE_BYTES)
        handled = f'grpc_server_handled_total{{grpc_code="DeadlineExceeded",grpc_method="{method}"'
        assert sum(value for name, value in series(server).items() if name.startswith(handled)) == calls
        unread.close()
        server.stop()
        logged = [json.loads(line) for line in server.log.splitlines()]
        found = [line for line in logged if line["event"] == "call"]
        assert [(line["setting"], line["stage"], line["level"]) for line in found] == [
            ("max_stall", "sending", "info")
        ] * calls
        assert {line["level"] for line in logged} == {"info"}


@pytest.mark.parametrize("side", [8, SIDE])
@pytest.mark.parametrize("method", METHODS)
async def test_to_hang_up_on_them_is_no_fault_of_the_server(method: str, side: int) -> None:
    calls = 10
    with ServerProcess(flags=("--log-level=debug",)) as server:
        for _ in range(calls):
            with ExitStack() as stack:
                connection = stack.enter_context(connected(server.address, window=0))
                before = series(server)[SENDING]
                unread = Unread(connection, method, request_of(method, side))
                unread.call()
                await eventually(lambda: is_sent(server))
                unread.close()
                await eventually(partial(has_cancelled, server, before + 1))
                assert series(server)[HELD] == 0
        handled = f'grpc_server_handled_total{{grpc_code="Canceled",grpc_method="{method}"'
        assert sum(value for name, value in series(server).items() if name.startswith(handled)) == calls
        server.stop()
        logged = [json.loads(line) for line in server.log.splitlines()]
        assert {line["level"] for line in logged if line.get("method")} == {"debug"}
        assert [line for line in logged if "exception" in line or line["level"] in ("warning", "error")] == []
        assert sum(line.get("stage") == "sending" for line in logged) == calls


async def test_a_client_that_cancels_while_it_is_sent_an_answer_is_no_fault_of_the_server() -> None:
    calls = 30
    with ServerProcess() as server, channel(server.address) as opened:
        method: Any = opened.unary_unary(f"/{SERVICE}/{METHOD}")
        raw = request_of(METHOD)
        for _ in range(calls):
            call = method.future(raw)
            await eventually(partial(is_sent_or_done, server, call))
            call.cancel()
        await eventually(lambda: open_calls(server) == 0 == series(server)[HELD])
        server.stop()
        assert [line for line in server.log.splitlines() if json.loads(line)["level"] != "info"] == []
        assert grpc.StatusCode.INTERNAL.name not in server.log
