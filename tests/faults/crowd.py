"""Many callers at once, who check every answer."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from threading import Event
from time import perf_counter

import numpy as np
import psutil

import gradwire as gw
from tests.integration.server_process import ServerProcess
from tests.losses import hinge, hinge_by_hand

CALL_SECONDS = 120.0
"""After which a call counts as hanging."""


@dataclass
class Crowd:
    """What callers saw."""

    seconds: list[float] = field(default_factory=list)
    """Of each call, in the order of their ends."""
    stop: Event = field(default_factory=Event)

    def count(self) -> int:
        return len(self.seconds)

    def has_more_than(self, count: int) -> bool:
        return self.count() > count


def _call(target: str, number: int, crowd: Crowd) -> None:
    """Call until told to stop: every other caller by a stream."""
    case = hinge(examples=7, seed=number)
    losses, gradients = hinge_by_hand(**case.arrays)
    bits: set[bytes] = set()
    with gw.connect(target) as client, client.stream(case.loss) as stream:
        call = stream if number % 2 else client.value_and_grad(case.loss)
        while not crowd.stop.is_set():
            start = perf_counter()
            value, found = call(case.arrays, timeout=CALL_SECONDS)
            crowd.seconds.append(perf_counter() - start)
            np.testing.assert_allclose(value, losses.mean(), rtol=1e-12)
            np.testing.assert_allclose(found["w"], gradients.mean(axis=0), rtol=1e-12)
            bits.add(np.asarray(value).tobytes() + found["w"].tobytes())
            assert len(bits) == 1


@contextmanager
def crowd(target: str, callers: int) -> Iterator[Crowd]:
    """So many callers, all of whose calls must succeed, while in the block."""
    seen = Crowd()
    with ThreadPoolExecutor(callers) as pool:
        calls: list[Future[None]] = [pool.submit(_call, target, number, seen) for number in range(callers)]
        try:
            yield seen
        finally:
            seen.stop.set()
    for call in calls:
        call.result()


def until(holds: Callable[[], bool], seconds: float = CALL_SECONDS) -> float:
    """Ask until it holds; the seconds that it took."""
    start = perf_counter()
    while not holds():
        assert perf_counter() - start < seconds, "it never held"
    return perf_counter() - start


def rss(server: ServerProcess) -> int:
    """Memory of a server's process, in bytes."""
    return int(psutil.Process(server.process.pid).memory_info().rss)


def percentile(seconds: list[float], share: float) -> float:
    return float(np.quantile(seconds, share))
