"""Calls that compute, taking turns between two replicas, against two bare processes that compute the same."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np

import gradwire as gw
from tests.benchmarks.peers import running
from tests.benchmarks.running import alone, evaluation, prepare
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import Call, Timings, contest, in_turns
from tests.benchmarks.unary import SERVE

EXAMPLES, STEPS = 16_384, 1000
"""A call computes for some 200 ms, so that what callers take of the two cores is little beside it; and so that it is
far from the bounds of the server's tiers (50 and 500 ms), about which a replica with one thread begins a second call
beside the first, and takes more than its core."""

CALLERS = 8
"""Callers at a time; with as many as replicas one often waits for the other's, while the other replica has nothing."""

CALLS = 16
"""Calls of a turn."""

SECONDS = 40.0


def loss() -> gw.Expression:
    """A chain that takes far longer to compute than its inputs to travel."""
    found: gw.Expression = gw.input("x", per_example=True)
    w = gw.parameter("w")
    for step in range(STEPS):
        found = gw.tanh(found * w + 0.001 * step)
    return found


def arrays() -> dict[str, Any]:
    """Its inputs."""
    return {"x": np.random.default_rng(1).normal(size=EXAMPLES), "w": np.array(0.9)}


def _bare() -> Call:
    alone()
    call = evaluation(prepare(gw.graph(loss())), arrays(), threads=1)

    def ours() -> tuple[Any, Any]:
        result = call()
        return result.loss, result.gradients["w"]

    return ours


def compare() -> Iterator[Row]:
    """How many times as many calls two replicas answer as one, by how many times as much two processes compute.

    And the processor time of a call, with the caller's, which is what two cores are shared by, whatever else they do.
    """
    given, bare = arrays(), _bare()
    taken: dict[str, list[float]] = {"two replicas and callers": [], "a bare process": []}
    with ExitStack() as stack:
        rivals = stack.enter_context(contest({"one": _bare, "other": _bare}))
        first, second = rivals.values()
        command = sys.executable, "-m", *SERVE, "--threads=1"
        servers = [stack.enter_context(running(command)) for _ in range(2)]
        threads = stack.enter_context(ThreadPoolExecutor(CALLERS))
        steps = []
        for target in (servers[0].address, f"ipv4:{','.join(server.address for server in servers)}"):
            steps.append(stack.enter_context(gw.connect(target)).value_and_grad(loss()))
            # All replicas have the graph then.
            for _ in range(CALLERS):
                steps[-1](given)

        def together() -> float:
            start = process_time()
            bare()
            taken["a bare process"].append(process_time() - start)
            first.begin()
            second.begin()
            return (first.end() + second.end()) / 4

        def calls(step: gw.ValueAndGrad) -> float:
            start = perf_counter()
            list(threads.map(step, [given] * CALLS))
            return (perf_counter() - start) / CALLS

        def of_two() -> float:
            before = process_time() + sum(server.seconds() for server in servers)
            found = calls(steps[1])
            after = process_time() + sum(server.seconds() for server in servers)
            taken["two replicas and callers"].append((after - before) / CALLS)
            return found

        turns: dict[str, Callable[[], float]] = {
            "one process": first.run,
            "two processes": together,
            "one": partial(calls, steps[0]),
            "two": of_two,
        }
        rounds = in_turns(turns, SECONDS).rounds
    work = f"{STEPS} tanh on {EXAMPLES:,} examples in every call, {CALLERS} callers"
    ours, peer = (
        median(rounds[one]) / median(rounds[two]) for one, two in (("one", "two"), ("one process", "two processes"))
    )
    yield Row(
        work=work,
        ours=f"two replicas by one {ours:.2f}",
        peer=f"two bare processes by one {peer:.2f}",
        ratio=ours / peer,
        reach=0.95,
    )
    yield from rows(
        "processor time of such a call", Timings(taken), "two replicas and callers", {"a bare process": 0.95}
    )
