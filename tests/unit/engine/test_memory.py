"""What a job says that it takes is what it takes."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.engine.reference.interpreter import memory
from gradwire_server.engine.run.evaluation import run
from gradwire_server.engine.run.idle import IDLE_ROOMS
from gradwire_server.engine.run.job import Job, bind
from gradwire_server.engine.run.program import Program
from gradwire_server.engine.run.query import Query
from gradwire_server.engine.run.threads import Threads
from tests.unit.engine.building import LIMITS, Builder, nothing
from tests.unit.engine.swarms import columns

ROOT = Path(__file__).parents[3]

NEAR = 0.15
"""Part of what a large job takes that it may be off by."""

SMALL = 256 << 10
"""Bytes that objects of Python, integers and rows take in a room, which is not counted for a small job."""


def hinge(builder: Builder) -> None:
    w, x = builder.parameter("w", (50,)), builder.input("x", (50,), per_example=True)
    builder.op("max", builder.constant(0.0), builder.op("sum", builder.op("mul", w, x)))


def perceptron(builder: Builder) -> None:
    h = builder.input("x", (100,), per_example=True)
    for name, shape in (("v", (80, 100)), ("w", (30, 80))):
        h = builder.op("tanh", builder.op("matmul", builder.parameter(name, shape), h))
    builder.op("logsumexp", h)


def wide(builder: Builder) -> None:
    h = builder.input("x", (256,), per_example=True)
    for name in "vw":
        h = builder.op("tanh", builder.op("matmul", builder.parameter(name, (256, 256)), h))
    builder.op("sum", h)


def attention(builder: Builder) -> None:
    q, k, v = (builder.input(name, (24, 16), per_example=True) for name in "qkv")
    w = builder.parameter("m", (16, 16))
    scores = builder.op("matmul", builder.op("matmul", q, w), builder.op("transpose", k, axes=(1, 0)))
    weights = builder.op("exp", builder.op("mul", scores, builder.constant(0.01)))
    builder.op("sum", builder.op("matmul", weights, v))


def embedding(builder: Builder) -> None:
    table, rows = builder.parameter("table", (20_000, 32)), builder.input("i", (16,), per_example=True, integer=True)
    taken = builder.op("sum", builder.op("take", table, rows), axes=(0,))
    builder.op("sum", builder.op("power", taken, exponent=2.0))


def broadcast(builder: Builder) -> None:
    w, x = builder.parameter("w", (50, 40)), builder.input("x", (40,), per_example=True)
    builder.op("reduce_max", builder.op("sigmoid", builder.op("mul", w, x)))


def shared(builder: Builder) -> None:
    w = builder.parameter("w", (300_000,))
    for _ in range(3):
        w = builder.op("mul", builder.op("tanh", w), w, w)
    builder.op("mul", builder.op("sum", w), builder.input("x", per_example=True))


def square(builder: Builder) -> None:
    w = builder.parameter("w", (600, 500))
    builder.op("sum", builder.op("matmul", builder.op("transpose", w, axes=(1, 0)), builder.op("exp", w)))


def chain(builder: Builder) -> None:
    operations: list[Any] = [("mul", [k % 20, 20 + k % 7]) for k in range(5_000)]
    operations += [(("tanh", [27 + k]) if k % 2 else ("power", [27 + k], 2.0)) for k in range(5_000)]
    x, w = builder.input("x", (20,), per_example=True), builder.parameter("w", (7,))
    builder.op("sum", builder.op("scalars", x, w, **columns(operations, list(range(5_027, 10_027)))))


def constants(builder: Builder) -> None:
    builder.op("sum", builder.op("mul", builder.parameter("w"), builder.constant(np.arange(1_000_000.0))))


Write = Callable[[Builder], None]

KINDS: list[tuple[Write, int]] = [
    (hinge, 100_000),
    (perceptron, 3000),
    (wide, 3000),
    (attention, 500),
    (embedding, 3000),
    (broadcast, 3000),
    (shared, 5),
    (square, 1),
    (constants, 1),
    (chain, 1),
    (chain, 300),
]


def arrays_of(program: Program, examples: int, dtype: Any, *, number: float = 0.5) -> dict[str, Any]:
    def array(shape: tuple[int, ...], *, integer: bool) -> Any:
        return np.zeros(shape, np.int64) if integer else np.full(shape, number, dtype)

    return {
        source.name: array(((examples,) if source.per_example else ()) + source.shape, integer=source.integer)
        for source in program.sources
    }


def job_of(write: Write, examples: int, dtype: Any = np.float64, threads: int = 1, **query: Any) -> Job:
    """A job whose program has run nothing yet."""
    builder = Builder()
    write(builder)
    program = builder.program()
    arrays = query.pop("arrays", None) or arrays_of(program, examples, dtype)
    return bind(program, Query(arrays=arrays, dtype=np.dtype(dtype), **query), LIMITS, threads)


def taken_by(job: Job, threads: int = 1) -> int:
    """Bytes at the peak of a run, results included."""
    pool = Threads(threads)
    tracemalloc.start()
    result = run(job, nothing, pool)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.non_finite is None
    return peak


def near(job: Job, taken: int) -> bool:
    return abs(taken - job.memory) <= NEAR * job.memory + SMALL


@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("write", "examples"), KINDS)
def test_a_job_takes_what_it_says(write: Write, examples: int, dtype: type, reduction: Reduction) -> None:
    if reduction is Reduction.NONE and write in (embedding, shared, wide):
        examples = 5  # gradients of examples in a large table
    # What is compiled or loaded once is not the job's.
    run(job_of(write, 2, dtype, reduction=reduction), nothing)
    job = job_of(write, examples, dtype, reduction=reduction)
    taken = taken_by(job)
    assert near(job, taken), (job.memory, taken)


@pytest.mark.parametrize(("write", "examples"), [(hinge, 200_000), (perceptron, 3000), (chain, 300)])
def test_so_it_does_on_several_threads(write: Write, examples: int) -> None:
    run(job_of(write, 2), nothing)
    for threads in (2, 4):
        job = job_of(write, examples, threads=threads)
        assert 1 < job.threads <= threads
        taken = taken_by(job, threads)
        assert near(job, taken), (job.memory, taken)


def test_gradients_in_inputs_and_outputs_are_counted() -> None:
    for query in ({"wrt": ("x", "v")}, {"outputs": (2, 3, 5)}, {"wrt": (), "reduction": Reduction.NONE}):
        run(job_of(perceptron, 2, **query), nothing)
        job = job_of(perceptron, 5000, **query)
        taken = taken_by(job)
        assert near(job, taken), (job.memory, taken, query)


def test_memory_does_not_grow_with_the_number_of_examples() -> None:
    run(job_of(hinge, 2), nothing)
    jobs = [job_of(hinge, examples) for examples in (50_000, 800_000)]
    peaks = [taken_by(job) for job in jobs]
    assert peaks[1] < 1.05 * peaks[0] + 8 * jobs[1].blocks
    assert jobs[1].memory < 1.05 * jobs[0].memory + 8 * jobs[1].blocks


@pytest.mark.parametrize("reduction", [Reduction.MEAN, Reduction.NONE])
@pytest.mark.parametrize(("write", "examples"), [(hinge, 100_000), (perceptron, 3000), (chain, 300), (shared, 5)])
def test_the_search_for_what_is_not_finite_takes_what_the_reference_does_besides(
    write: Write, examples: int, reduction: Reduction
) -> None:
    arrays = arrays_of(programs(write), examples, np.float64)
    arrays["x"][-1] = np.nan
    jobs = [
        job_of(write, n, arrays={k: a[-n:] if k == "x" else a for k, a in arrays.items()}, reduction=reduction)
        for n in (2, examples)
    ]
    run(jobs[0], nothing)
    tracemalloc.start()
    result = run(jobs[1], nothing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.non_finite is not None
    explained = memory(jobs[1].program.checked, np.dtype(np.float64))
    assert peak <= (1 + NEAR) * jobs[1].memory + jobs[1].result_bytes + explained + SMALL


RESIDENT = """
from tests.unit.engine.test_memory import *
def used():
    return next(int(line.split()[1]) << 10 for line in open("/proc/self/status") if line.startswith("VmHWM"))
for reduction in Reduction:
    run(job_of({write}, 2, reduction=reduction), nothing)
job = job_of({write}, {examples}, reduction=Reduction.{reduction})
arrays = [a + 1 for a in job.query.arrays.values()]  # all pages are there
open("/proc/self/clear_refs", "w").write("5")
before = used()
result = run(job, nothing)
print(job.memory, used() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="asks the system for the peak since a moment")
@pytest.mark.parametrize(
    ("write", "examples", "reduction"),
    [("perceptron", 4000, "NONE"), ("hinge", 1_000_000, "NONE"), ("chain", 300, "MEAN"), ("square", 1, "MEAN")],
)
def test_the_process_grows_by_what_a_job_says(write: str, examples: int, reduction: str) -> None:
    code = RESIDENT.format(write=write, examples=examples, reduction=reduction)
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, capture_output=True, text=True)
    said, taken = map(int, done.stdout.split())
    assert abs(taken - said) <= NEAR * said + (4 << 20), (said, taken)


def programs(write: Write) -> Program:
    builder = Builder()
    write(builder)
    return builder.program()


def transposes(builder: Builder) -> None:
    node = builder.parameter("w", (2, 2))
    for _ in range(5000):
        node = builder.op("transpose", node, axes=(1, 0))
    builder.op("sum", node)


def sums_of_many(builder: Builder) -> None:
    node = builder.parameter("w", (2,))
    for _ in range(8):
        node = builder.op("add", *[node] * 400)
    builder.op("sum", node)


def tensors(builder: Builder) -> None:
    node = builder.parameter("w", (2,))
    for _ in range(1000):
        node = builder.op("tanh", node)
    builder.op("sum", node)


def sources(builder: Builder) -> None:
    builder.op("add", *(builder.parameter(f"parameter {i}") for i in range(2000)))


def few(builder: Builder) -> None:
    builder.op("exp", builder.parameter("w"))


@pytest.mark.parametrize(
    ("write", "asked"),
    [
        (transposes, 5),
        (sums_of_many, 3),
        (tensors, 3),
        (constants, 20),
        (sources, 3),
        (chain, 4),
        (few, 2),
        (perceptron, 8),
    ],
)
def test_a_program_takes_no_more_than_it_says_whatever_is_asked_of_it(write: Write, asked: int) -> None:
    def ask(program: Program) -> None:
        for output in range(min(asked, program.facts.sent)):
            for examples in (1, 5):
                arrays = arrays_of(program, examples, np.float64)
                run(bind(program, Query(arrays=arrays, dtype=np.dtype(np.float64), outputs=(output,)), LIMITS), nothing)

    ask(programs(few))
    IDLE_ROOMS.clear()
    tracemalloc.start()
    program = programs(write)
    ask(program)
    IDLE_ROOMS.clear()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken <= program.nbytes, (taken, program.nbytes)
