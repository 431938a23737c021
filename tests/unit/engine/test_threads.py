"""Threads: the same bytes and errors for any number of them, no more at a time than there are cores, an end for all."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.engine.run.evaluation import run
from gradwire_server.engine.run.job import Job, bind
from gradwire_server.engine.run.program import Program
from gradwire_server.engine.run.query import Query
from gradwire_server.engine.run.threads import Threads
from gradwire_server.errors import Reason, Refusal
from gradwire_server.limits import Limits
from tests.losses import hinge
from tests.unit.engine.building import LIMITS, Builder, nothing
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
        for source in program.checked.sources
    }


def job_of(program: Program, query: Query, threads: int) -> Job:
    """The job, which is worth several threads."""
    job = bind(program, query, LIMITS, threads)
    assert 1 < job.threads <= min(threads, job.blocks)
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
    inputs = tuple(source.name for source in program.checked.sources if not source.integer)
    query = Query(
        arrays=arrays_for(program, dtype),
        dtype=np.dtype(dtype),
        reduction=reduction,
        wrt=inputs,
        outputs=(program.facts.sent - 2,),
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
import os, threading
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
    assert job.threads == 1


def test_a_job_says_what_it_takes_and_that_hardly_depends_on_the_number_of_examples() -> None:
    jobs = [bind(hinge_program(30), hinge_query(examples), LIMITS, 4) for examples in (200_000, 800_000)]
    assert [job.threads for job in jobs] == [4, 4]
    # What was found in each tile is kept.
    assert jobs[1].memory - jobs[0].memory == 8 * (jobs[1].blocks - jobs[0].blocks)
    assert str(jobs[0]).startswith(
        f"{jobs[0].blocks} tiles of up to {jobs[0].lanes} of 200000 examples, on up to 4 threads, "
        f"{jobs[0].memory} bytes, about "
    )


def test_a_job_takes_as_many_threads_as_the_limit_of_memory_leaves_room_for() -> None:
    builder = Builder()
    perceptron(builder)
    program = builder.program()
    query = Query(arrays=arrays_for(program, np.float64), dtype=np.dtype(np.float64))
    jobs = {threads: bind(program, query, LIMITS, threads) for threads in (1, 2, 3)}
    for threads, job in jobs.items():
        assert job.threads == threads
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
        with pytest.raises(Refusal, match=f'index 101 of "row" at position .* of example {job.lanes + 3} ') as raised:
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
