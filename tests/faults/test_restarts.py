"""Processes that end while they are called."""

from __future__ import annotations

from contextlib import ExitStack
from functools import partial
from time import perf_counter

import psutil
import pytest

from tests.faults.conftest import Faults
from tests.faults.crowd import crowd, percentile, until
from tests.integration.server_process import ServerProcess
from tests.integration.test_workers import serving, workers_of

WORKERS = 4


@pytest.mark.timeout(300)
def test_a_worker_is_killed_every_second(faults: Faults) -> None:
    seconds, callers = faults.of(3, 30), faults.of(8, 32)
    with ServerProcess(flags=(f"--workers={WORKERS}",)) as server:
        away: list[float] = []
        with crowd(server.address, callers) as seen:
            until(partial(seen.has_more_than, callers))
            begin = perf_counter()
            for killed in range(1, seconds + 1):
                min(workers_of(server), key=psutil.Process.create_time).kill()
                away.append(until(partial(serving, server, WORKERS, killed)))
                seen.stop.wait(begin + killed - perf_counter())
            took = perf_counter() - begin
            # Whoever waits is served.
            until(partial(seen.has_more_than, seen.count() + callers))
        assert server.stop() == 0
    faults.tell("workers killed", len(away))
    faults.tell("time in which they were", took, "s", most=1.1 * seconds)
    faults.tell("until another one serves, in the middle", percentile(away, 0.5), "s")
    faults.tell("until another one serves, at the longest", max(away), "s")
    faults.tell("calls, all answered and right", seen.count())
    faults.tell("longest call", max(seen.seconds), "s")


@pytest.mark.timeout(300)
def test_two_replicas_are_restarted_in_turn(faults: Faults) -> None:
    rounds, callers = faults.of(1, 5), faults.of(6, 16)
    with ExitStack() as stack:
        flags = ("--announce=0.5", "--grace=20")
        servers = [stack.enter_context(ServerProcess(flags=flags)) for _ in range(2)]
        target = "ipv4:" + ",".join(server.address for server in servers)
        with crowd(target, callers) as seen:
            for server in servers * rounds:
                until(partial(seen.has_more_than, seen.count() + 10 * callers))
                assert server.stop() == 0
                server.start()
    faults.tell("restarts", 2 * rounds)
    faults.tell("calls, all answered and right", seen.count())
    faults.tell("longest call", max(seen.seconds), "s")
