"""The asyncio client, on the engine in the process and on a server alike."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator

import numpy as np
import pytest

import gradwire as gw
from tests.integration.server_process import DEADLINE, ServerProcess
from tests.integration.waiting import eventually
from tests.losses import hinge, perceptron, sum_of_squares


@pytest.fixture(params=["local", "server"])
async def client(request: pytest.FixtureRequest) -> AsyncIterator[gw.AsyncClient]:
    kind: str = request.param
    target = kind if kind == "local" else request.getfixturevalue("server").address
    async with gw.AsyncClient(target) as client:
        yield client


async def test_it_gives_what_the_blocking_client_gives(client: gw.AsyncClient) -> None:
    case = hinge()
    with gw.connect("local") as blocking:
        expected, by_hand = blocking.value_and_grad(case.loss)(**case.arrays)
        info, graph_id = blocking.info(), blocking.register(case.loss)
    value, gradients = await client.value_and_grad(case.loss)(**case.arrays)
    assert value == expected
    np.testing.assert_array_equal(gradients["w"], by_hand["w"])
    assert await client.info() == info
    assert await client.register(case.loss) == graph_id
    assert (await client.check(case.loss, **case.arrays)).passed
    assert (await client.trace(case.loss, w=[0, 0, 0], phi=[1, 2, 3], y=1)).loss == 1


async def test_calls_overlap(client: gw.AsyncClient) -> None:
    w = gw.parameter("w")
    square = client.value_and_grad(w * w)
    answers = await asyncio.gather(*(square(w=float(i)) for i in range(100)))
    assert [value for value, _ in answers] == [i * i for i in range(100)]
    async with client.stream(w * w) as stream:
        answers = await asyncio.gather(*(stream(w=float(i)) for i in range(100)))
    assert [value for value, _ in answers] == [i * i for i in range(100)]


async def test_large_tensors(client: gw.AsyncClient) -> None:
    case = sum_of_squares(1_000_000)
    _, gradients = await client.value_and_grad(case.loss)(**case.arrays)
    np.testing.assert_array_equal(gradients["w"], 2 * case.arrays["w"])


async def test_errors_are_the_same(client: gw.AsyncClient) -> None:
    case = hinge()
    with pytest.raises(gw.InvalidRequestError, match=r'"w".*expected'):
        await client.value_and_grad(case.loss)(**case.arrays | {"w": [1.0]})
    async with client.stream(case.loss) as stream:
        with pytest.raises(gw.InvalidRequestError, match=r'"w".*expected'):
            await stream(**case.arrays | {"w": [1.0]})
    large = sum_of_squares(1_000_000)
    with pytest.raises(gw.InvalidRequestError, match=r'"w".*\(1000000,\)'):
        await client.value_and_grad(large.loss)(w=np.ones(1_000_001))


async def test_a_timeout_ends_a_long_call(client: gw.AsyncClient) -> None:
    case = perceptron(examples=2_000_000)
    with pytest.raises(gw.DeadlineExceededError):
        await client.value_and_grad(case.loss)(**case.arrays, timeout=0.05)


async def test_a_closed_client_says_so(client: gw.AsyncClient) -> None:
    await client.close()
    with pytest.raises(gw.UsageError, match="closed"):
        await client.info()


async def test_cancelling_the_task_stops_the_work_on_the_server(server: ServerProcess) -> None:
    case = perceptron(examples=300_000)
    async with gw.AsyncClient(server.address) as client:
        call = asyncio.create_task(client.check(case.loss, **case.arrays))
        await eventually(lambda: "gradwire_requests_in_flight 1.0" in server.metrics())
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await eventually(lambda: "gradwire_requests_in_flight 0.0" in server.metrics())
        cancelled = 'grpc_code="Canceled",grpc_method="CheckGradients",grpc_service="gradwire.v1.GradientService"'
        assert cancelled in server.metrics()


def test_a_client_belongs_to_one_event_loop(server: ServerProcess) -> None:
    client = gw.AsyncClient(server.address)
    with asyncio.Runner() as first:
        first.run(client.info())
        with asyncio.Runner() as second, pytest.raises(gw.UsageError, match="event loop"):
            second.run(client.info())
        first.run(client.close())


async def test_a_timeout_of_a_stream(client: gw.AsyncClient) -> None:
    case, few = perceptron(2_000_000), perceptron(10)
    async with client.stream(case.loss) as stream:
        assert (await stream(**few.arrays, timeout=60))[0] > 0
        with pytest.raises(gw.DeadlineExceededError):
            await stream(**case.arrays, timeout=0.05)
        assert (await stream(**few.arrays))[0] > 0


async def test_timeouts_of_many_calls_on_a_stream_that_stands_still() -> None:
    with ServerProcess() as server:
        async with gw.AsyncClient(server.address) as client, client.stream(gw.parameter("w") ** 2) as stream:
            assert (await stream(w=3.0))[0] == 9
            server.process.send_signal(signal.SIGSTOP)
            try:
                async with asyncio.timeout(DEADLINE / 3):
                    calls = (stream(w=3.0, timeout=0.5) for _ in range(400))
                    late = await asyncio.gather(*calls, return_exceptions=True)
            finally:
                server.process.send_signal(signal.SIGCONT)
            assert {type(error) for error in late} == {gw.DeadlineExceededError}


async def test_a_client_that_is_closed_while_a_large_call_is_made_again_says_so() -> None:
    case = sum_of_squares(300_000)
    with ServerProcess() as server:
        async with gw.AsyncClient(server.address) as client:
            value_and_grad = client.value_and_grad(case.loss)
            await value_and_grad(**case.arrays)
            server.stop(signal.SIGKILL)
            call = asyncio.create_task(value_and_grad(**case.arrays))
            # The first attempt fails at once; the next one is to come.
            await asyncio.wait([call], timeout=0.1)
            await client.close()
            with pytest.raises(gw.CancelledError, match="closed"):
                await call
