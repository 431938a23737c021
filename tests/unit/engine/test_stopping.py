"""Work that nobody waits for any longer stops soon, wherever it is."""

from __future__ import annotations

import threading
from collections.abc import Callable
from time import monotonic
from typing import Any

import numpy as np
import pytest

from gradwire_server.engine.run.evaluation import run
from gradwire_server.engine.run.job import Job, bind
from gradwire_server.engine.run.query import Query
from gradwire_server.engine.run.threads import Threads
from tests.losses import hinge
from tests.unit.engine.building import LIMITS, Builder, nothing
from tests.unit.engine.swarms import columns
from tests.unit.engine.test_hinge import program as hinge_program

SOON = 1.0
"""Seconds; 0.1 is the promise, on a machine that has nothing else to do."""


class GivenUp(Exception):  # noqa: N818  (what callers raise)
    """Nobody waits any more."""


def job_of(builder: Builder, arrays: dict[str, Any], threads: int = 1, **query: Any) -> Job:
    return bind(builder.program(), Query(arrays=arrays, dtype=np.dtype(np.float64), **query), LIMITS, threads)


def hinge_job() -> Job:
    query = Query(arrays=hinge(2_000_000, 30).arrays, dtype=np.dtype(np.float64))
    return bind(hinge_program(30), query, LIMITS, 2)


def product() -> Job:
    builder = Builder()
    w = builder.parameter("w", (3000, 3000))
    builder.op("sum", builder.op("matmul", w, builder.op("matmul", w, w)))
    return job_of(builder, {"w": np.ones((3000, 3000))})


def function() -> Job:
    builder = Builder()
    node = builder.parameter("w", (2_000_000,))
    for _ in range(20):
        node = builder.op("tanh", node)
    builder.op("sum", node)
    return job_of(builder, {"w": np.ones(2_000_000)})


def many_operands() -> Job:
    builder = Builder()
    w = builder.parameter("w", (300_000,))
    builder.op("sum", builder.op("mul", *[w] * 400))
    return job_of(builder, {"w": np.ones(300_000)})


def swarm() -> Job:
    builder = Builder()
    chain: list[Any] = [("tanh", [1 + k]) for k in range(200_000)]
    x = builder.input("x", (2,), per_example=True)
    builder.op("sum", builder.op("scalars", x, **columns(chain, [200_001])))
    return job_of(builder, {"x": np.ones((400, 2))})


def empty_examples() -> Job:
    builder = Builder()
    builder.op("sum", builder.input("x", (0,), per_example=True))
    return job_of(builder, {"x": np.empty((1 << 31, 0))})


JOBS: list[Callable[[], Job]] = [hinge_job, product, function, many_operands, swarm, empty_examples]


@pytest.mark.parametrize("write", JOBS)
def test_a_job_that_nobody_waits_for_stops_soon(write: Callable[[], Job]) -> None:
    job = write()
    stopped: list[float] = []

    def checkpoint() -> None:
        if len(passed) == 1:
            stopped.append(monotonic())
            raise GivenUp
        passed.append(1)

    for _ in range(2):
        passed: list[int] = []
        with pytest.raises(GivenUp):
            run(job, checkpoint, Threads(2))
        assert monotonic() - stopped[-1] < SOON


def test_what_was_given_up_leaves_nothing_to_the_next() -> None:
    job = hinge_job()
    expected = run(job, nothing, Threads(2))

    def checkpoint() -> None:
        if passed:
            raise GivenUp
        passed.append(1)

    passed: list[int] = []
    with pytest.raises(GivenUp):
        run(job, checkpoint, Threads(2))
    again = run(job, nothing, Threads(2))
    assert again.loss.tobytes() == expected.loss.tobytes()
    assert again.gradients["w"].tobytes() == expected.gradients["w"].tobytes()


def test_one_that_is_given_up_does_not_stop_another() -> None:
    jobs = [hinge_job(), hinge_job()]
    begun = threading.Event()
    results: list[Any] = []

    def other() -> None:
        results.append(run(jobs[1], begun.set, Threads(1)))

    thread = threading.Thread(target=other)
    thread.start()
    assert begun.wait(30)
    passed: list[int] = []

    def checkpoint() -> None:
        if passed:
            raise GivenUp
        passed.append(1)

    with pytest.raises(GivenUp):
        run(jobs[0], checkpoint, Threads(1))
    thread.join()
    assert results[0].non_finite is None
    assert results[0].loss.tobytes() == run(jobs[1], nothing).loss.tobytes()


def test_a_short_job_is_not_looked_after() -> None:
    query = Query(arrays=hinge(10, 30).arrays, dtype=np.dtype(np.float64))

    def never() -> None:
        raise AssertionError

    run(bind(hinge_program(30), query, LIMITS), never)


def test_the_search_for_what_is_not_finite_stops_too() -> None:
    job = hinge_job()
    job.query.arrays["phi"][-1, 3] = np.nan
    assert run(job, nothing).non_finite is not None
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1

    run(job, count)
    assert passed > 3
