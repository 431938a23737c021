"""Processes that end while they are called."""

from __future__ import annotations

import os
import signal
from contextlib import ExitStack
from functools import partial

import psutil
import pytest

from tests.faults.conftest import Faults
from tests.faults.crowd import crowd, until
from tests.integration.server_process import ServerProcess
from tests.integration.test_metrics import series

WORKERS = 4


@pytest.mark.timeout(300)
def test_a_worker_is_killed_every_second(faults: Faults) -> None:
    seconds, callers = faults.of(3, 30), faults.of(8, 32)
    with ServerProcess(flags=(f"--workers={WORKERS}",)) as server:
        parent, killed = psutil.Process(server.process.pid), 0
        with crowd(server.address, callers) as seen:
            until(partial(seen.has_more_than, callers))
            for _ in range(seconds):
                # However slowly this machine starts another one, somebody is there to answer.
                until(lambda: series(server)["gradwire_workers_serving"] > 1)
                workers = sorted(parent.children(), key=psutil.Process.create_time)
                os.kill(workers[0].pid, signal.SIGKILL)
                killed += 1
                seen.stop.wait(1)
            # Whoever waits is served.
            until(partial(seen.has_more_than, seen.count() + callers))
        until(lambda: series(server)["gradwire_workers_serving"] == WORKERS)
        assert series(server)["gradwire_worker_restarts_total"] == killed
        assert server.stop() == 0
    faults.tell("workers killed", killed)
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
