"""Threads: the same bytes and errors for any number of them, no more at a time than there are cores, an end for all."""

from __future__ import annotations

import gc
import subprocess
import sys
import threading
import tracemalloc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradwire_server.engine import Job, Limits, Program, Query, Reduction, bind, run
from gradwire_server.engine.threads import Ordered, Threads
from gradwire_server.errors import Reason, Refusal
from tests.losses import hinge
from tests.unit.engine.graphs import LIMITS, Builder, nothing
from tests.unit.engine.test_hinge import program as hinge_program

ROOT = Path(__file__).parents[3]
N = 9_000


def perceptron(builder: Builder) -> None:
    hidden = builder.op(
        "tanh", builder.op("matmul", builder.parameter("W", (40, 30)), builder.input("x", (30,), per_example=True))
    )
    scores = builder.op("matmul", builder.parameter("V", (5, 40)), hidden)
    builder.op("sum", builder.op("mul", scores, builder.op("exp", builder.parameter("b", (5,)))))


def scalars(builder: Builder) -> None:
    nodes = [builder.parameter("w"), builder.input("x", per_example=True), builder.input("y", per_example=True)]
    for i in range(200):
        nodes.append(builder.op(("mul", "add", "max")[i % 3], nodes[-1], nodes[i % (i // 2 + 3)]))
        nodes.append(builder.op("tanh", nodes[-1]))
    builder.op("add", *nodes)


def rows(builder: Builder) -> None:
    table, row = builder.parameter("table", (100, 20)), builder.input("row", (8,), per_example=True, integer=True)
    builder.op("reduce_max", builder.op("sum", builder.op("take", table, row), axes=(0,)))


def arrays_for(program: Program, dtype: type) -> dict[str, Any]:
    random = np.random.default_rng(0)
    return {
        source.name: random.integers(-100, 100, (N, *source.shape))
        if source.integer
        else random.normal(size=((N,) if source.per_example else ()) + source.shape).astype(dtype)
        for source in program.sources
    }


def job_of(program: Program, query: Query, threads: int) -> Job:
    """The job, which has blocks for threads."""
    job = bind(program, query, LIMITS, threads)
    assert job.threads == min(threads, job.blocks)
    assert job.blocks > 1
    return job


def bytes_of(job: Job, threads: Threads) -> list[bytes]:
    result = run(job, nothing, threads)
    assert result.non_finite is None
    arrays = [result.loss, *result.gradients.values(), *result.outputs.values()]
    return [array.tobytes() for array in arrays]


@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("write", [perceptron, scalars, rows])
def test_any_number_of_threads_gives_the_same_bytes(
    write: Callable[[Builder], None], dtype: type, reduction: Reduction
) -> None:
    builder = Builder()
    write(builder)
    program = builder.program()
    inputs = tuple(source.name for source in program.sources if not source.integer)
    query = Query(
        arrays=arrays_for(program, dtype),
        dtype=np.dtype(dtype),
        reduction=reduction,
        wrt=inputs,
        outputs=(len(program.shapes) - 2,),
    )
    expected = bytes_of(bind(program, query, LIMITS), Threads(1))
    for count in (2, 16):
        assert bytes_of(job_of(program, query, count), Threads(count)) == expected


def hinge_query(examples: int = 100_000) -> Query:
    return Query(arrays=hinge(examples, 30).arrays, dtype=np.dtype(np.float64))


def test_jobs_of_many_callers_give_the_same_bytes() -> None:
    program, query, threads = hinge_program(30), hinge_query(), Threads(3)
    expected = bytes_of(bind(program, query, LIMITS), threads)
    job = job_of(program, query, 3)
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda _: bytes_of(job, threads), range(12))) == [expected] * 12


def test_a_process_that_was_forked_has_threads_again() -> None:
    code = """
import os
from tests.unit.engine.test_threads import *
program, query, threads = hinge_program(30), hinge_query(), Threads(2)
first = bytes_of(job_of(program, query, 2), threads)
child = os.fork()
same = bytes_of(job_of(program, query, 2), threads) == first
helped = any(thread.name.startswith("gradwire-helper") for thread in threading.enumerate())
if child == 0:
    os._exit(0 if same and helped else 1)
assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
"""
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_small_jobs_stay_where_they_are() -> None:
    job = bind(hinge_program(30), hinge_query(100), LIMITS, 2)
    assert job.threads == 0


@pytest.mark.parametrize("reduction", list(Reduction))
def test_the_estimate_of_memory_holds_for_all_threads(reduction: Reduction) -> None:
    builder = Builder()
    perceptron(builder)
    program, threads = builder.program(), Threads(4)
    query = Query(arrays=arrays_for(program, np.float64), dtype=np.dtype(np.float64), reduction=reduction)
    job = job_of(program, query, 4)
    run(job, nothing, threads)
    tracemalloc.start()
    run(job, nothing, threads)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= job.memory


def test_a_job_says_what_it_takes_at_most_and_that_does_not_depend_on_the_number_of_examples() -> None:
    jobs = [bind(hinge_program(30), hinge_query(examples), LIMITS, 4) for examples in (50_000, 200_000)]
    assert jobs[0].memory == jobs[1].memory
    assert str(jobs[0]).startswith(
        f"13 blocks of up to 4096 of 50000 examples, on up to 4 threads, at most {jobs[0].memory} bytes, about "
    )


def test_a_job_takes_as_many_threads_as_the_limit_of_memory_leaves_room_for() -> None:
    builder = Builder()
    perceptron(builder)
    program = builder.program()
    query = Query(arrays=arrays_for(program, np.float64), dtype=np.dtype(np.float64))
    jobs = {threads: job_of(program, query, threads) for threads in (1, 2, 3)}
    for threads, job in jobs.items():
        assert bind(program, query, Limits(max_memory_bytes=job.memory), 3).threads == threads


def test_the_first_block_that_fails_says_what_is_wrong() -> None:
    builder = Builder()
    rows(builder)
    program = builder.program()
    arrays = arrays_for(program, np.float64)
    job = job_of(program, Query(arrays=arrays, dtype=np.dtype(np.float64)), 4)
    assert job.blocks >= 4
    for block in range(1, job.blocks):
        arrays["row"][block * job.lanes + 3, 5] = 100 + block
    threads = Threads(4)
    for _ in range(20):
        with pytest.raises(Refusal, match=f"index 101 at position .* of example {job.lanes + 3} ") as raised:
            run(job, nothing, threads)
        assert raised.value.reason is Reason.INDEX_OUT_OF_RANGE


def test_the_report_is_that_of_the_first_example_whichever_thread_found_it() -> None:
    query = hinge_query()
    program = hinge_program(30)
    job = job_of(program, query, 4)
    threads = Threads(4)
    for example in range(job.lanes + 7, 100_000, job.lanes):
        query.arrays["phi"][example, 3] = np.nan
    for _ in range(10):
        report = run(job, nothing, threads).non_finite
        assert report is not None
        assert (report.name, report.example, report.position) == ("phi", job.lanes + 7, (3,))


def test_all_threads_stop_when_nobody_waits_any_more() -> None:
    query = hinge_query()
    job = job_of(hinge_program(30), query, 4)
    begun: list[int] = []

    def checkpoint() -> None:
        begun.append(threading.get_ident())
        if len(begun) >= 8:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(job, checkpoint, Threads(4))
    passed = len(begun)
    assert passed < 8 + 4
    run(replace(job, threads=1), nothing)
    assert len(begun) == passed


class Fan:
    """Parts that wait for each other as a test says."""

    def __init__(self, count: int) -> None:
        self.begun = [threading.Event() for _ in range(count)]
        self.may_end = [threading.Event() for _ in range(count)]
        self.taken: list[int] = []

    def do(self, number: int) -> int:
        self.begun[number].set()
        assert self.may_end[number].wait(30)
        return number


def test_results_wait_for_those_before_them_but_not_many() -> None:
    fan = Fan(5)
    ordered = Ordered(5, 2, fan.do, fan.taken.append)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(ordered.run, Threads(3), 3)
        assert fan.begun[0].wait(30)
        assert fan.begun[1].wait(30)
        fan.may_end[1].set()
        # Part 1 waits to be taken and part 0 runs, so that no other may begin.
        assert fan.taken == []
        assert not fan.begun[2].is_set()
        for event in fan.may_end:
            event.set()
        done.result(30)
    assert fan.taken == [0, 1, 2, 3, 4]


def test_the_error_is_that_of_the_first_part_also_where_a_later_one_fails_first() -> None:
    fan = Fan(2)

    def do(number: int) -> int:
        fan.do(number)
        raise ValueError(number)

    ordered = Ordered(2, 2, do, fan.taken.append)
    with ThreadPoolExecutor(1) as pool:
        done = pool.submit(ordered.run, Threads(2), 2)
        assert fan.begun[0].wait(30)
        assert fan.begun[1].wait(30)
        fan.may_end[1].set()
        fan.may_end[0].set()
        with pytest.raises(ValueError, match=r"^0$"):
            done.result(30)
    assert fan.taken == []


def test_nothing_is_kept_of_what_failed_on_several_threads() -> None:
    both = threading.Barrier(2)
    kept: list[weakref.ref[Any]] = []

    def do(number: int) -> None:
        computed = np.empty(1000)
        kept.append(weakref.ref(computed))
        both.wait(30)
        raise ValueError(number)

    gc.disable()
    try:
        with pytest.raises(ValueError, match=r"^0$") as raised:
            Ordered(2, 2, do, print).run(Threads(2), 2)
        raised.value.with_traceback(None)
        del raised
        assert [reference() for reference in kept] == [None, None]
    finally:
        gc.enable()


def test_helpers_make_room_for_callers() -> None:
    """With as many callers as cores nobody helps, and helpers who are there already leave."""
    threads = Threads(2)
    alone, crowded = threading.Event(), threading.Event()
    helped: list[str] = []

    def part(number: int) -> str:
        if number == 1:
            alone.set()
        if number >= 1:
            assert crowded.wait(30)
        return threading.current_thread().name

    with ThreadPoolExecutor(2) as pool:

        def first() -> None:
            with threads.caller():
                Ordered(50, 50, part, helped.append).run(threads, 2)

        done = pool.submit(first)
        assert alone.wait(30)
        with threads.caller():
            crowded.set()
            done.result(30)
    # Parts 1 and 2 had begun before.
    assert [name for name in helped[3:] if name.startswith("gradwire-helper")] == []
