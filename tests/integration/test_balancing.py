"""Clients whose calls take turns among replicas: each replica works, and hardly a call is made twice."""

from __future__ import annotations

import asyncio
import re
import signal
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from tests.integration.envoy import DAMAGED, DROPPED, envoy
from tests.integration.server_process import ServerProcess
from tests.integration.waiting import eventually
from tests.losses import perceptron

CALLS = 300

Calls = Callable[[str, gw.Expression], object]

_fresh = count()


@pytest.fixture(scope="module")
def replicas() -> Iterator[list[ServerProcess]]:
    """Five servers; a test takes as many of them as it needs."""
    with ExitStack() as stack, ThreadPoolExecutor(5) as pool:
        yield list(pool.map(stack.enter_context, [ServerProcess() for _ in range(5)]))


def loss() -> gw.Expression:
    """A loss that no server has met."""
    w, x = gw.parameter("w", shape=(3,)), gw.input("x", shape=(3,), per_example=True)
    return gw.softplus(-gw.dot(w, x)) + next(_fresh)


ARRAYS = {"w": np.ones(3), "x": np.ones((4, 3))}


def one_after_another(target: str, loss: gw.Expression) -> None:
    with gw.connect(target) as client:
        call = client.value_and_grad(loss)
        for _ in range(CALLS):
            call(ARRAYS)


def eight_threads(target: str, loss: gw.Expression) -> None:
    with gw.connect(target) as client, ThreadPoolExecutor(8) as pool:
        list(pool.map(client.value_and_grad(loss), [ARRAYS] * CALLS))


def eight_threads_after_one_call(target: str, loss: gw.Expression) -> None:
    with gw.connect(target) as client, ThreadPoolExecutor(8) as pool:
        call = client.value_and_grad(loss)
        call(ARRAYS)
        list(pool.map(call, [ARRAYS] * (CALLS - 1)))


def eight_tasks(target: str, loss: gw.Expression) -> None:
    async def work() -> None:
        async with gw.AsyncClient(target) as client:
            call, slots = client.value_and_grad(loss), asyncio.Semaphore(8)

            async def one() -> None:
                async with slots:
                    await call(ARRAYS)

            await asyncio.gather(*(one() for _ in range(CALLS)))

    asyncio.run(work())


def counted(server: ServerProcess, what: str, method: str) -> Counter[str]:
    """How many calls of a method a server has ``started`` or ``handled``, these by code."""
    found = Counter[str]()
    for line in server.metrics().splitlines():
        labels, _, value = line.rpartition(" ")
        if labels.startswith(f"grpc_server_{what}_total{{") and f'grpc_method="{method}"' in labels and float(value):
            code = re.search(r'grpc_code="(\w+)"', labels)
            found[code[1] if code else ""] += int(float(value))
    return found


def handled(server: ServerProcess, method: str) -> Counter[str]:
    return counted(server, "handled", method)


async def all_answer(target: str, servers: Sequence[ServerProcess]) -> None:
    """Wait until the calls of this process reach every server: connections come one by one."""
    before = [handled(server, "GetServerInfo")["OK"] for server in servers]
    with gw.connect(target) as client:

        def reached() -> bool:
            client.info()
            return all(handled(server, "GetServerInfo")["OK"] > n for server, n in zip(servers, before, strict=True))

        await eventually(reached)


async def ended(servers: Sequence[ServerProcess], calls: Calls, target: str) -> list[Counter[str]]:
    """How many calls each server has ended, by code, of all these."""
    before = [handled(server, "ComputeGradients") for server in servers]
    await asyncio.to_thread(calls, target, loss())

    def since() -> list[Counter[str]]:
        return [handled(server, "ComputeGradients") - begun for server, begun in zip(servers, before, strict=True)]

    # A server counts a call after its answer has gone.
    await eventually(lambda: sum(each["OK"] for each in since()) == CALLS)
    return since()


@pytest.mark.parametrize("calls", [one_after_another, eight_threads, eight_threads_after_one_call, eight_tasks])
@pytest.mark.parametrize("n", [2, 3, 5])
async def test_every_replica_works_and_few_calls_meet_one_that_lacks_the_graph(
    replicas: list[ServerProcess], n: int, calls: Calls
) -> None:
    servers = replicas[:n]
    target = "ipv4:" + ",".join(server.address for server in servers)
    await all_answer(target, servers)
    found = await ended(servers, calls, target)
    assert sum(each["NotFound"] for each in found) <= 3 * n, found
    assert min(each["OK"] for each in found) > 0.8 / n * CALLS, found


@pytest.mark.parametrize("details", [[], DROPPED, DAMAGED], ids=["kept", "dropped", "damaged"])
@pytest.mark.parametrize("calls", [one_after_another, eight_threads, eight_tasks])
async def test_and_behind_a_proxy_which_may_drop_or_damage_the_details_of_errors(
    replicas: list[ServerProcess], tmp_path: Path, calls: Calls, details: list[Any]
) -> None:
    servers = replicas[:3]
    with envoy(tmp_path, servers, details) as proxy:
        await eventually(lambda: proxy.healthy() == 3)
        found = await ended(servers, calls, proxy.address)
    assert sum(each["NotFound"] for each in found) <= 9, found
    assert min(each["OK"] for each in found) > 0.8 / 3 * CALLS, found


async def test_a_stream_whose_server_dies_behind_a_proxy_goes_on_with_another(tmp_path: Path) -> None:
    few, many = perceptron(examples=10), perceptron(examples=300_000)
    with ExitStack() as stack:
        servers = [stack.enter_context(ServerProcess()) for _ in range(2)]
        proxy = stack.enter_context(envoy(tmp_path, servers))
        await eventually(lambda: proxy.healthy() == 2)
        stream = stack.enter_context(stack.enter_context(gw.connect(proxy.address)).stream(many.loss))
        await asyncio.to_thread(stream, few.arrays)
        [busy] = [server for server in servers if counted(server, "started", "StreamGradients")]
        # The proxy has passed on the beginning of the response, and can only reset the rest.
        answer = stream.submit(many.arrays)
        await eventually(lambda: "gradwire_requests_in_flight 1.0" in busy.metrics())
        busy.stop(signal.SIGKILL)
        result = await asyncio.wrap_future(answer)
        assert result.examples == 300_000
