"""The asyncio client, on the engine in the process and on a server alike."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from itertools import chain

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


@pytest.fixture(params=["local", "server"])
def target(request: pytest.FixtureRequest) -> str:
    kind: str = request.param
    return kind if kind == "local" else request.getfixturevalue("server").address


def test_asyncio_run_as_often_as_one_likes(target: str) -> None:
    # A program, or a notebook, makes the client once and runs a loop for each piece of work.
    client, large = gw.AsyncClient(target), sum_of_squares(200_000)
    square, squares = client.value_and_grad(gw.parameter("w") ** 2), client.value_and_grad(large.loss)
    stream = client.stream(gw.parameter("w") ** 2)

    async def work(w: float) -> list[float]:
        calls = (square(w=w + i) for i in range(3)), (stream(w=w + i) for i in range(3)), [squares(large.arrays)]
        return [float(value) for value, _ in await asyncio.gather(*chain(*calls))]

    expected = float(np.sum(large.arrays["w"] ** 2))
    for w in range(4):
        assert asyncio.run(work(w)) == pytest.approx([*[(w + i) ** 2 for i in range(3)] * 2, expected])
    asyncio.run(stream.close())
    asyncio.run(client.close())
    with pytest.raises(gw.UsageError, match="closed"):
        asyncio.run(client.info())


def test_loops_that_take_turns(target: str) -> None:
    client = gw.AsyncClient(target)
    with asyncio.Runner() as first, asyncio.Runner() as second:
        infos = [runner.run(client.info()) for runner in (first, second, first, second)]
        assert infos == infos[:1] * 4
        first.run(client.close())
        with pytest.raises(gw.UsageError, match="closed"):
            second.run(client.info())


def test_loops_of_several_threads_at_a_time(target: str) -> None:
    client = gw.AsyncClient(target)
    square = client.value_and_grad(gw.parameter("w") ** 2)

    async def work(w: int) -> list[float]:
        return [float((await square(w=float(w)))[0]) for _ in range(50)]

    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda w: asyncio.run(work(w)), range(8))) == [[w * w] * 50 for w in range(8)]
    asyncio.run(client.close())


def test_a_loop_that_ends_in_the_middle_of_a_call(server: ServerProcess) -> None:
    client, case = gw.AsyncClient(server.address), perceptron(examples=300_000)
    tasks: list[asyncio.Task[gw.CheckReport]] = []

    async def begin() -> None:
        tasks.append(asyncio.create_task(client.check(case.loss, **case.arrays)))
        await eventually(lambda: "gradwire_requests_in_flight 1.0" in server.metrics())

    asyncio.run(begin())
    assert [task.cancelled() for task in tasks] == [True]
    assert asyncio.run(client.info()).ops
    asyncio.run(client.close())


async def test_closing_the_client_ends_its_calls_in_other_loops(server: ServerProcess) -> None:
    client, case = gw.AsyncClient(server.address), perceptron(examples=300_000)

    async def call() -> None:
        with pytest.raises(gw.CancelledError, match="closed"):
            await client.check(case.loss, **case.arrays)

    elsewhere = asyncio.create_task(asyncio.to_thread(asyncio.run, call()))
    await eventually(lambda: "gradwire_requests_in_flight 1.0" in server.metrics())
    await client.close()
    await elsewhere


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
