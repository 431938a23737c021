"""Replicas that die, come and go under load: no call fails, no bit changes, and all that serve have as much to do."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from math import inf
from pathlib import Path
from threading import Event
from typing import Any

import pytest

import gradwire as gw
from tests.integration.envoy import envoy
from tests.integration.names import names
from tests.integration.server_process import ServerProcess
from tests.integration.test_balancing import counted, handled
from tests.integration.waiting import eventually
from tests.losses import Case, hinge, sum_of_squares

HOSTS = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"]

WINDOW = 100
"""Calls of each replica, at least, over which it is seen that all have as many."""


def bits(answer: tuple[Any, dict[str, Any]]) -> list[bytes]:
    """What an answer is."""
    value, gradients = answer
    return [value.tobytes(), *(gradients[name].tobytes() for name in sorted(gradients))]


@dataclass
class Load:
    """A caller that goes on until it is told to stop, and whose answers are all the same."""

    target: str
    case: Case
    expected: list[bytes]
    pause: float = 0
    """Seconds between two calls, so that those of others are many."""
    done: int = 0
    stop: Event = field(default_factory=Event)

    def calls(self) -> None:
        with gw.connect(self.target) as client:
            self._go_on(client.value_and_grad(self.case.loss))

    def stream(self) -> None:
        with gw.connect(self.target) as client, client.stream(self.case.loss) as stream:
            self._go_on(stream)

    def _go_on(self, call: gw.ValueAndGrad | gw.Stream) -> None:
        while not self.stop.is_set():
            assert bits(call(self.case.arrays)) == self.expected
            self.done += 1
            self.stop.wait(self.pause)

    def tasks(self) -> None:
        async def work() -> None:
            async with gw.AsyncClient(self.target) as client:
                call = client.value_and_grad(self.case.loss)
                while not self.stop.is_set():
                    for answer in await asyncio.gather(*(call(self.case.arrays) for _ in range(4))):
                        assert bits(answer) == self.expected
                    self.done += 1

        asyncio.run(work())


def answered(servers: Sequence[ServerProcess]) -> list[int]:
    """Calls that each server has answered; a stream is one, however many requests it has."""
    methods = "ComputeGradients", "StreamGradients"
    return [sum(handled(server, method)["OK"] for method in methods) for server in servers]


# Servers start, and hundreds of calls are made in each of four states.
@pytest.mark.timeout(300)
@pytest.mark.parametrize("proxied", [False, True], ids=["round robin of the client", "Envoy"])
async def test_replicas_die_come_and_go_under_load_and_nobody_notices(tmp_path: Path, *, proxied: bool) -> None:
    small, large = hinge(), sum_of_squares(150_000)  # the large one travels in frames
    with ThreadPoolExecutor(4) as pool, ExitStack() as stack:
        first = stack.enter_context(ServerProcess())
        others = [ServerProcess(flags=(f"--host={host}",), port=first.port) for host in HOSTS[1:]]
        # They all start at once; the fourth one has its turn later.
        second, third, fourth = pool.map(stack.enter_context, others)
        with gw.connect(first.address) as client:
            expected = [bits(client.value_and_grad(case.loss)(case.arrays)) for case in (small, large)]
        name = stack.enter_context(names(first.port, *HOSTS[:3]))
        target = name.target
        if proxied:
            proxy = stack.enter_context(envoy(tmp_path, name))
            await eventually(lambda: proxy.healthy() == 3)
            target = proxy.address
        loads = [
            Load(target, small, expected[0]),
            Load(target, small, expected[0]),
            Load(target, large, expected[1], pause=0.1),
            Load(target, large, expected[1], pause=0.1),
        ]
        works = loads[0].calls, loads[1].tasks, loads[2].calls, loads[3].stream
        callers = [pool.submit(work) for work in works]
        for load in loads:
            stack.callback(load.stop.set)

        async def grown(servers: Sequence[ServerProcess], calls: int, *, within: float = inf) -> None:
            """Wait until each server has answered so many more calls, and all callers have made some.

            The servers are asked one after another, so that calls made meanwhile are seen of the later ones only; the
            more calls there are, the less that is. So it waits too until all have as many, but for a share of the mean.
            """
            before, done = answered(servers), [load.done for load in loads]

            def since() -> list[int]:
                return [now - then for now, then in zip(answered(servers), before, strict=True)]

            def have() -> bool:
                assert not any(caller.done() for caller in callers), [caller.exception() for caller in callers]
                found = since()
                mean = sum(found) / len(found)
                return (
                    min(found) >= calls
                    and max(abs(calls - mean) for calls in found) <= within * mean
                    and all(load.done > 3 + then for load, then in zip(loads, done, strict=True))
                )

            await eventually(have)

        async def share(servers: Sequence[ServerProcess]) -> None:
            """See that these servers have as many calls each, once all have some."""
            await grown(servers, 10)
            await grown(servers, WINDOW, within=0.1)

        await share([first, second, third])
        first.stop(signal.SIGKILL)
        await share([second, third])
        name.addresses = HOSTS[1:]
        await share([second, third, fourth])
        third.process.terminate()
        name.addresses = [HOSTS[1], HOSTS[3]]
        assert await asyncio.to_thread(third.wait) == 0
        await share([second, fourth])
        for load in loads:
            load.stop.set()
        for caller in callers:
            caller.result()


async def test_a_call_survives_that_its_server_moves_while_the_name_has_the_old_address() -> None:
    with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        first = stack.enter_context(ServerProcess())
        other = stack.enter_context(ServerProcess(flags=(f"--host={HOSTS[1]}",), port=first.port))
        name = stack.enter_context(names(first.port, HOSTS[0]))
        client = stack.enter_context(gw.connect(name.target))
        client.info()
        asked = name.asked
        first.stop(signal.SIGKILL)
        call = pool.submit(client.info)
        await eventually(lambda: name.asked > asked or call.done())
        name.addresses = [HOSTS[1]]
        assert (await asyncio.wrap_future(call)).version
        assert handled(other, "GetServerInfo")["OK"] == 1


async def test_a_replica_that_says_that_it_drains_has_no_new_calls_from_clients_that_ask() -> None:
    # It takes calls all the same, as long as it announces the end.
    with ThreadPoolExecutor(2) as pool, ExitStack() as stack:
        servers = [ServerProcess(flags=("--announce=300",)) for _ in range(2)]
        first, second = pool.map(stack.enter_context, servers)
        for server in servers:
            stack.callback(server.stop, signal.SIGKILL)
        target = f"ipv4:{first.address},{second.address}"
        asking = stack.enter_context(gw.connect(target, health_checks=True))
        other = stack.enter_context(gw.connect(target))

        def reached(client: gw.Client) -> list[int]:
            """Calls that each server had of ten."""
            before = [counted(server, "started", "GetServerInfo") for server in servers]
            for _ in range(10):
                client.info()
            after = [counted(server, "started", "GetServerInfo") for server in servers]
            return [(now - then).total() for now, then in zip(after, before, strict=True)]

        await eventually(lambda: reached(asking) == [5, 5])
        await eventually(lambda: reached(other) == [5, 5])
        first.process.terminate()
        await eventually(lambda: reached(asking) == [0, 10])
        assert reached(other) == [5, 5]
