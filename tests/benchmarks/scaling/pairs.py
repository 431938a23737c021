"""Two servers behind one target, with several callers, as the simulation has them; one of them dies in the end."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from threading import Barrier, Timer
from time import perf_counter

import gradwire as gw
from tests.benchmarks.scaling.calls import FLAGS, turn
from tests.benchmarks.scaling.points import Point
from tests.integration.server_process import ServerProcess

WORK = Point((20, 100, 100, 1), 1024)
"""Some ten milliseconds of computing, for few bytes."""

CALLERS = (1, 2, 4, 8)
CALLS = 240
"""Of all callers together."""

LOST_AFTER = 0.3
"""Seconds from the first call until a server is killed."""


def measure() -> Iterator[Mapping[str, object]]:
    """What a call takes alone; a row for each number of callers; and one in which a server is lost."""
    work = WORK.workload()
    with ServerProcess(FLAGS) as one, ServerProcess(FLAGS) as other:
        with gw.connect(one.address) as client:
            step = client.value_and_grad(work.loss)
            for _ in range(3):
                step(work.arrays)
            turns = [turn(lambda: step(work.arrays), one) for _ in range(15)]
        alone = sorted(turns, key=lambda spent: spent.wall)[len(turns) // 2]
        yield {"client_seconds": alone.client, "server_seconds": alone.server, "wall_seconds": alone.wall}
        target = f"ipv4:{one.address},{other.address}"
        for callers in CALLERS:
            yield {"callers": callers, "lost_after": None, **_load(target, callers)}
        killer = Timer(LOST_AFTER, one.process.send_signal, [signal.SIGKILL])
        yield {"callers": CALLERS[2], "lost_after": LOST_AFTER, **_load(target, CALLERS[2], killer.start)}


def _load(target: str, callers: int, begin: Callable[[], object] = lambda: None) -> Mapping[str, object]:
    """Seconds of every call of callers that call as soon as they are answered, and of all of them together."""
    work = WORK.workload()
    barrier = Barrier(callers + 1)

    def caller() -> tuple[list[float], float]:
        taken = []
        with gw.connect(target) as client:
            step = client.value_and_grad(work.loss)
            for _ in range(4):
                step(work.arrays)
            barrier.wait()
            for _ in range(CALLS // callers):
                begun = perf_counter()
                step(work.arrays)
                taken.append(perf_counter() - begun)
        return taken, perf_counter()

    with ExitStack() as stack:
        pool = stack.enter_context(ThreadPoolExecutor(callers))
        futures = [pool.submit(caller) for _ in range(callers)]
        barrier.wait()
        begin()
        begun = perf_counter()
        found = [future.result() for future in futures]
    return {
        "calls": [seconds for taken, _ in found for seconds in taken],
        "seconds": max(ended for _, ended in found) - begun,
    }
