"""A server that goes and comes back costs its callers nothing."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from itertools import chain, repeat

import numpy as np
import pytest

import gradwire as gw
from tests.integration.proxy import NEVER, proxy
from tests.integration.server_process import ServerProcess
from tests.losses import Arrays, hinge, sum_of_squares

SIGNALS = [signal.SIGTERM, signal.SIGKILL]


def descend(step: gw.ValueAndGrad | gw.Stream, arrays: Arrays, before: dict[int, Callable[[], None]]) -> list[float]:
    """Ten steps; what ``before`` has for a step is called before it."""
    losses = []
    w = arrays["w"]
    for t in range(10):
        if t in before:
            before[t]()
        value, gradients = step(**arrays | {"w": w})
        losses.append(float(value))
        w = w - 0.1 * gradients["w"]
    return losses


def restart(server: ServerProcess, number: signal.Signals) -> None:
    server.stop(number)
    server.start()


@pytest.mark.parametrize("number", SIGNALS)
def test_training_goes_on_over_a_restart(number: signal.Signals) -> None:
    case = hinge(examples=20)
    with ServerProcess() as server, gw.connect(server.address) as client, gw.connect("local") as local:
        expected = descend(local.value_and_grad(case.loss), case.arrays, {})
        again = {5: lambda: restart(server, number)}
        assert descend(client.value_and_grad(case.loss), case.arrays, again) == expected
        with client.stream(case.loss) as stream:
            assert descend(stream, case.arrays, again) == expected


def test_a_server_that_is_down_for_a_while_is_waited_for() -> None:
    case = hinge()
    with ServerProcess() as server, gw.connect(server.address) as client:
        value_and_grad = client.value_and_grad(case.loss)
        expected, _ = value_and_grad(**case.arrays)
        with client.stream(case.loss) as stream:
            stream(**case.arrays)
            server.stop()
            pending = stream.submit(**case.arrays)
            server.start()
            assert pending.result().loss == expected
        assert value_and_grad(**case.arrays)[0] == expected


@pytest.mark.parametrize("number", SIGNALS)
def test_requests_under_way_on_a_stream_are_sent_again(number: signal.Signals) -> None:
    case = sum_of_squares(500_000)
    expected = np.sum(case.arrays["w"] ** 2)
    with ServerProcess() as server, gw.connect(server.address) as client, client.stream(case.loss) as stream:
        futures = [stream.submit(**case.arrays) for _ in range(30)]
        futures[3].result()
        restart(server, number)
        futures += [stream.submit(**case.arrays) for _ in range(30)]
        assert {future.result().loss for future in futures} == {expected}


async def test_asyncio_goes_on_over_a_restart() -> None:
    case = hinge()
    with ServerProcess() as server:
        async with gw.AsyncClient(server.address) as client:
            value_and_grad = client.value_and_grad(case.loss)
            expected, _ = await value_and_grad(**case.arrays)
            async with client.stream(case.loss) as stream:
                await stream(**case.arrays)
                await asyncio.to_thread(restart, server, signal.SIGKILL)
                assert (await stream(**case.arrays))[0] == expected
            assert (await value_and_grad(**case.arrays))[0] == expected


def test_a_server_that_does_not_come_back_is_named() -> None:
    case = hinge()
    with ServerProcess() as server, gw.connect(server.address, max_attempts=2) as client:
        value_and_grad = client.value_and_grad(case.loss)
        stream = client.stream(case.loss)
        value_and_grad(**case.arrays)
        stream(**case.arrays)
        server.stop()
        with pytest.raises(gw.UnavailableError, match=server.address):
            value_and_grad(**case.arrays)
        with pytest.raises(gw.UnavailableError, match=server.address):
            stream(**case.arrays)
        stream.close()


@pytest.mark.parametrize("how", ["call", "asyncio", "stream"])
async def test_a_large_call_is_made_again_wherever_the_connection_breaks(server: ServerProcess, how: str) -> None:
    case = sum_of_squares(1_000_000)
    expected = np.sum(case.arrays["w"] ** 2)
    # Of eight million bytes: in the middle, and when the answer is on its way. The pauses take more than a second.
    limits = chain([3_000_000, 8_000_000], repeat(NEVER))
    async with proxy(server.address, limits=limits) as port, gw.AsyncClient(f"127.0.0.1:{port}") as client:
        with gw.connect(f"127.0.0.1:{port}") as blocking, blocking.stream(case.loss) as stream:
            for _ in range(2):
                if how == "asyncio":
                    value, gradients = await client.value_and_grad(case.loss)(**case.arrays)
                else:
                    call = stream if how == "stream" else blocking.value_and_grad(case.loss)
                    value, gradients = await asyncio.to_thread(call, **case.arrays)
                assert value == expected
                np.testing.assert_array_equal(gradients["w"], 2 * case.arrays["w"])
            await asyncio.to_thread(stream.close)
    assert next(limits) == NEVER
