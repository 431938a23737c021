"""More work than there is time for, and work that nobody waits for."""

from __future__ import annotations

import asyncio
from time import perf_counter, sleep
from typing import Any

import grpc
import psutil
import pytest

import gradwire as gw
from gradwire.v1 import gradient_service_pb2 as pb
from tests.faults.conftest import Faults
from tests.faults.crowd import percentile, until
from tests.integration.raw import channel, stub
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import series
from tests.integration.test_service import tensors
from tests.losses import perceptron, products

SIZE = 400
EXPECTED = float(SIZE) ** 3
BUSY = "gradwire_requests_in_flight"


async def test_four_times_the_load_that_it_can_bear(faults: Faults) -> None:
    case, seconds = products(SIZE), faults.of(2, 30)
    accepted: list[float] = []
    refused: list[float] = []
    delays: set[float | None] = set()
    with ServerProcess(flags=("--threads=1", "--max-requests=2")) as server:
        async with gw.AsyncClient(server.address, max_attempts=1) as client:
            evaluate = client.value_and_grad(case.loss)

            async def call() -> None:
                start = perf_counter()
                try:
                    value, _ = await evaluate(case.arrays)
                except gw.OverloadedError as error:
                    refused.append(perf_counter() - start)
                    delays.add(error.retry_after)
                else:
                    accepted.append(perf_counter() - start)
                    assert value == EXPECTED

            async def until_full(end: float) -> None:
                while perf_counter() < end:
                    await call()

            for _ in range(20):
                await call()
            unloaded = percentile(accepted, 0.99)
            accepted.clear()
            # Two callers keep its thread busy, and no more.
            await asyncio.gather(*(until_full(perf_counter() + seconds) for _ in range(2)))
            peak = len(accepted) / seconds
            accepted.clear()
            refused.clear()
            calls: list[asyncio.Task[None]] = []
            start = perf_counter()
            while (now := perf_counter() - start) < seconds:
                calls += [asyncio.create_task(call()) for _ in range(int(4 * peak * now) - len(calls))]
                await asyncio.sleep(1e-3)
            await asyncio.gather(*calls)
            goodput = len(accepted) / (perf_counter() - start)
        assert delays == {0.5}
        found = series(server)
        assert found['gradwire_requests_refused_total{resource="requests"}'] >= len(refused) > 0
        assert found[BUSY] == 0
    faults.tell("calls offered, a second", len(calls) / seconds)
    faults.tell("calls answered, of those at the peak", goodput / peak, "x", least=0.9)
    faults.tell("p99 of those answered, of an unloaded server's", percentile(accepted, 0.99) / unloaded, "x", most=3)
    faults.tell("median of those refused", 1e3 * percentile(refused, 0.5), "ms")
    faults.tell("p99 of those refused", 1e3 * percentile(refused, 0.99), "ms", most=10)


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
