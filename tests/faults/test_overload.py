"""More work than there is time for, and work that nobody waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from time import perf_counter, sleep
from typing import Any

import grpc
import numpy as np
import psutil
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from tests.faults.conftest import Faults
from tests.faults.crowd import percentile, until
from tests.hostile import messages
from tests.integration.raw import SERVICE, channel, refused, stub
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import series
from tests.integration.test_service import tensor, tensors
from tests.losses import perceptron, products

SIZE = 400
EXPECTED = np.float64(SIZE**3).tobytes()
BUSY = "gradwire_requests_in_flight"


@dataclass
class Load:
    """Callers of bytes for a while, which are looked at afterwards: they share the processors with the server."""

    evaluate: Any
    request: bytes
    replies: list[bytes]
    errors: list[grpc.aio.AioRpcError]
    seconds: float = 0
    answered: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)

    @property
    def goodput(self) -> float:
        """Calls answered in a second."""
        return len(self.answered) / self.seconds

    @property
    def p99(self) -> float:
        """Seconds of the calls that were answered."""
        return percentile(self.answered, 0.99)

    async def call(self) -> None:
        start = perf_counter()
        try:
            reply = await self.evaluate(self.request)
        except grpc.aio.AioRpcError as error:
            self.refused.append(perf_counter() - start)
            self.errors.append(error)
        else:
            self.answered.append(perf_counter() - start)
            self.replies.append(reply)

    async def callers(self, count: int, seconds: float) -> None:
        """So many who always wait for an answer."""
        start = perf_counter()

        async def ask() -> None:
            while perf_counter() < start + seconds:
                await self.call()

        await asyncio.gather(*(ask() for _ in range(count)))
        self.seconds = perf_counter() - start

    async def arrivals(self, rate: float, seconds: float) -> None:
        """So many calls in each second, whatever becomes of those before."""
        calls: list[asyncio.Task[None]] = []
        start = perf_counter()
        while (now := perf_counter() - start) < seconds:
            calls += [asyncio.create_task(self.call()) for _ in range(int(rate * now) - len(calls))]
            await asyncio.sleep(1e-3)
        await asyncio.gather(*calls)
        self.seconds = perf_counter() - start


def _median(figures: Iterable[float]) -> float:
    return percentile(list(figures), 0.5)


@pytest.mark.timeout(300)
async def test_four_times_the_load_that_it_can_bear(faults: Faults) -> None:
    """In turns, each compared with those beside it, and the middle one of the figures counts.

    Callers and server share the processors with whatever else runs: over all turns together such a neighbour would
    count as if the server had lost what it took.
    """
    case, seconds = products(SIZE), faults.of(1, 3)
    request = pb.ComputeGradientsRequest(graph=gw.graph(case.loss), tensors=tensors(case)).SerializeToString()
    replies: list[bytes] = []
    errors: list[grpc.aio.AioRpcError] = []
    turns: list[tuple[Load, Load, Load]] = []
    with ServerProcess(flags=("--threads=1", "--max-requests=2")) as server:
        async with grpc.aio.insecure_channel(server.address) as opened:
            evaluate: Any = opened.unary_unary(f"/{SERVICE}/ComputeGradients")
            await Load(evaluate, request, replies, errors).call()
            for _ in range(faults.of(1, 12)):
                unloaded, full, over = (Load(evaluate, request, replies, errors) for _ in range(3))
                await unloaded.callers(1, seconds)
                await full.callers(2, seconds)
                await over.arrivals(4 * full.goodput, seconds)
                turns.append((unloaded, full, over))
        assert {pb.ComputeGradientsResponse.FromString(reply).loss.raw for reply in replies} == {EXPECTED}
        assert {(answer.reason, answer.retry) for answer in map(refused, errors)} == {("OVERLOADED", True)}
        found = series(server)
        assert found['gradwire_requests_refused_total{resource="requests"}'] == len(errors)
        assert found[BUSY] == 0
    offered = _median((len(over.answered) + len(over.refused)) / over.seconds for _, _, over in turns)
    goodput = _median(over.goodput / full.goodput for _, full, over in turns)
    slower = _median(over.p99 / unloaded.p99 for unloaded, _, over in turns)
    faults.tell("calls answered at the peak, a second", _median(full.goodput for _, full, _ in turns))
    faults.tell("calls offered, a second", offered)
    faults.tell("median of those refused", 1e3 * _refused(turns, 0.5), "ms")
    faults.tell("calls answered, of those at the peak", goodput, "x", least=0.9)
    faults.tell("p99 of those answered, of an unloaded server's", slower, "x", most=3)
    faults.tell("p99 of those refused", 1e3 * _refused(turns, 0.99), "ms", most=10)


def _refused(turns: Sequence[tuple[Load, Load, Load]], share: float) -> float:
    """Seconds in which such a share of them is refused."""
    return _median(percentile(over.refused, share) for _, _, over in turns)


def _until_idle(process: psutil.Process) -> float:
    """Seconds until a process uses no processor any more."""

    def is_idle() -> bool:
        before, start = sum(process.cpu_times()[:2]), perf_counter()
        sleep(0.02)
        return bool(sum(process.cpu_times()[:2]) - before < 0.5 * (perf_counter() - start))

    return until(is_idle)


@pytest.mark.parametrize("how", ["cancelled", "deadline"])
def test_nobody_waits_for_a_long_computation_any_more(faults: Faults, how: str) -> None:
    case = perceptron(faults.of(200_000, 1_000_000))
    request = pb.CheckGradientsRequest(graph=gw.graph(case.loss), tensors=tensors(case), max_probes=1000)
    with ServerProcess() as server, channel(server.address) as opened:
        process = psutil.Process(server.process.pid)
        check: Any = stub(opened).CheckGradients
        for _ in range(faults.of(2, 10)):
            if how == "cancelled":
                call = check.future(request)
                until(lambda: series(server)[BUSY] == 1)
                call.cancel()
            else:
                with pytest.raises(grpc.RpcError) as raised:
                    check(request, timeout=1e-3)
                assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            until(lambda: series(server)[BUSY] == 0)
            idle = _until_idle(process)
        # Of the last of them.
        faults.tell(f"until the processor is free ({how})", 1e3 * idle, "ms", most=100)
        if how == "cancelled":
            stages = ("queued", "running")
            found = series(server)
            assert sum(found[f'gradwire_requests_cancelled_total{{stage="{stage}"}}'] for stage in stages) > 0


@pytest.mark.parametrize("what", ["many operands", "large product"])
def test_nobody_waits_for_a_long_instruction_any_more(faults: Faults, what: str) -> None:
    if what == "many operands":
        array = np.ones(100_000)
        steps = [messages.op("add", *[0] * 100_000, name="")]
    else:
        array = np.ones((5000, 1))
        steps = [messages.op("transpose", 0, axes=[1, 0], name="")]
        steps += [messages.op("matmul", *operands, name="") for operands in ((0, 1), (2, 2))]
    loss = messages.op("sum", len(steps), name="")
    graph = messages.graph(messages.parameter("w", *array.shape), *steps, loss)
    arrays = {"w": tensor(array)}
    with ServerProcess() as server, channel(server.address) as opened:
        process = psutil.Process(server.process.pid)
        graph_id = stub(opened).RegisterGraph(pb.RegisterGraphRequest(graph=graph)).graph_id
        request = pb.ComputeGradientsRequest(graph_id=graph_id, tensors=arrays)
        idle = []
        for _ in range(faults.of(2, 10)):
            with pytest.raises(grpc.RpcError) as raised:
                stub(opened).ComputeGradients(request, timeout=1)
            assert raised.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
            until(lambda: series(server)[BUSY] == 0)
            idle.append(_until_idle(process))
        faults.tell("until the processor is free", 1e3 * _median(idle), "ms", most=100)
