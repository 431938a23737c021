"""Depth, width, memory, blocks, and that neither the machine nor the order of calls shows in a result."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradwire_server.engine.graph.graph import Reduction, Ties
from gradwire_server.engine.run.evaluation import run
from gradwire_server.engine.run.job import bind
from gradwire_server.engine.run.program import compile_graph
from gradwire_server.engine.run.query import Query
from gradwire_server.engine.threads import Threads
from gradwire_server.engine.TODO import Checkpoint, bind_trace, run_trace
from gradwire_server.errors import Reason, Refusal
from gradwire_server.limits import Limits
from tests.losses import hinge
from tests.unit.engine.building import LIMITS, Builder, evaluate, nothing
from tests.unit.engine.swarms import columns
from tests.unit.engine.test_hinge import program as hinge_program

ROOT = Path(__file__).parents[3]


def test_a_chain_of_a_hundred_thousand_nodes() -> None:
    builder = Builder()
    node = builder.parameter("w")
    half = builder.constant(0.5)
    for _ in range(50_000):
        node = builder.op("tanh", builder.op("mul", node, half))
    result = evaluate(builder.program(), {"w": 1.0})
    slope = value = 1.0
    for _ in range(50_000):
        value = np.tanh(value / 2)
        slope *= (1 - value**2) / 2
    np.testing.assert_allclose(result.loss, value, rtol=1e-12)
    np.testing.assert_allclose(result.gradients["w"], slope, rtol=1e-9)


def test_a_sum_of_a_hundred_thousand_leaves_and_a_hundred_thousand_branches() -> None:
    builder = Builder()
    w = builder.parameter("w")
    leaves = [builder.op("mul", w, builder.constant(float(i))) for i in range(50_000)]
    builder.op("add", *leaves, *[w] * 50_000)
    result = evaluate(builder.program(), {"w": 2.0})
    slope = sum(range(50_000)) + 50_000
    assert (result.loss, result.gradients["w"]) == (2 * slope, slope)


def peak_of(examples: int) -> int:
    arrays = hinge(examples, 50).arrays
    evaluate(hinge_program(50), hinge(10, 50).arrays)
    tracemalloc.start()
    evaluate(hinge_program(50), arrays)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    return peak


def test_memory_does_not_grow_with_the_number_of_examples() -> None:
    assert peak_of(200_000) < 1.05 * peak_of(20_000)


def test_the_estimate_of_memory_holds() -> None:
    arrays = hinge(20_000, 50).arrays
    for reduction in Reduction:
        query = Query(arrays=arrays, dtype=np.dtype(np.float64), reduction=reduction)
        job = bind(hinge_program(50), query, LIMITS)
        run(job, nothing)
        tracemalloc.start()
        run(job, nothing)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak <= job.memory


def repeated(op: str, times: int) -> Builder:
    builder = Builder()
    builder.op("sum", builder.op(op, *[builder.parameter("a", (40_000,))] * times))
    return builder


def of_two(op: str, *shapes: tuple[int, ...], **attributes: Any) -> Builder:
    builder = Builder()
    operands = [builder.parameter(name, shape) for name, shape in zip("ab", shapes, strict=False)]
    builder.op("sum", builder.op(op, *operands, **attributes))
    return builder


TEMPORARY = {
    "a product of many": repeated("mul", 200),
    "a maximum of many": repeated("max", 200),
    "maxima of single elements": of_two("reduce_max", (200_000, 1), axes=(1,)),
    "a matrix and many vectors": of_two("matmul", (100, 100), (100, 100, 1)),
    "many vectors and a matrix": of_two("matmul", (100, 1, 100), (100, 100)),
    "a sigmoid": of_two("sigmoid", (200_000,)),
}


@pytest.mark.parametrize("builder", TEMPORARY.values(), ids=TEMPORARY)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("value", [1.0, np.nan])
def test_the_estimate_of_memory_holds_for_what_operations_take_meanwhile(
    builder: Builder, dtype: type, value: float
) -> None:
    program = builder.program(ties=Ties.SPLIT)
    arrays: dict[str, Any] = {source.name: np.full(source.shape, value, dtype) for source in program.sources}
    job = bind(program, Query(arrays=arrays, dtype=np.dtype(dtype)), LIMITS)
    run(job, nothing)
    tracemalloc.start()
    run(job, nothing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= job.memory


@pytest.mark.parametrize("nodes", [100, 1000, 5000])
def test_the_estimate_of_what_a_program_takes_holds_whatever_is_asked_of_it(nodes: int) -> None:
    tracemalloc.start()
    builder = Builder()
    node = builder.op("sum", builder.op("mul", builder.parameter("w"), builder.constant(np.arange(200_000.0))))
    for _ in range(nodes):
        node = builder.op("tanh", node)
    program = builder.program()
    for dtype in (np.float32, np.float64):
        program.cast_constants(np.dtype(dtype))
    query = Query(arrays={"w": np.array(1.0)}, dtype=np.dtype(np.float64))
    for output in range(20):
        bind(program, replace(query, outputs=(output,)), LIMITS)
    del builder
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken <= program.nbytes


def transposes(count: int) -> Builder:
    builder = Builder()
    node = builder.parameter("w", (2, 2))
    for _ in range(count):
        node = builder.op("transpose", node, axes=(1, 0))
    builder.op("sum", node)
    return builder


def sums_of_many(count: int) -> Builder:
    builder = Builder()
    node = builder.parameter("w", (2,))
    for _ in range(count // 400):
        node = builder.op("add", *[node] * 400)
    builder.op("sum", node)
    return builder


# Only a graph of so many nodes keeps one plan alone.
@pytest.mark.parametrize("write", [transposes, sums_of_many])
def test_the_estimate_of_what_a_program_takes_holds_for_attributes_and_operands(
    write: Callable[[int], Builder],
) -> None:
    # What is loaded or compiled once is not the program's.
    write(800).program()
    tracemalloc.start()
    program = write(40_000).program()
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert taken <= program.nbytes < 3 * taken


def test_a_graph_that_would_not_be_kept_is_refused_before_the_work() -> None:
    graph = transposes(5000).graph()
    kept = compile_graph(graph, LIMITS).nbytes
    assert compile_graph(graph, LIMITS, max_cache_bytes=kept).nbytes == kept
    passed = 0

    def checkpoint() -> None:
        nonlocal passed
        passed += 1

    for limit, at_once in ((kept - 1, False), (2000 * 5000, True)):
        passed = 0
        with pytest.raises(Refusal, match="max_cache_bytes") as raised:
            compile_graph(graph, LIMITS, checkpoint, max_cache_bytes=limit)
        assert raised.value.reason is Reason.LIMIT_EXCEEDED
        # As often as the nodes are counted, or many times more.
        assert (passed <= 2 * 5000 / 512 + 2) is at_once


def test_a_program_that_nobody_has_any_more_is_free_at_once() -> None:
    gc.disable()
    try:
        builder = Builder()
        builder.op("mul", builder.parameter("w"), builder.input("x", per_example=True))
        program = builder.program()
        evaluate(program, {"w": 1, "x": [2, 3]}, np.float32)
        kept = weakref.ref(program)
        del program
        assert kept() is None
    finally:
        gc.enable()


def test_what_would_take_too_much_memory_is_refused_before_it_is_taken() -> None:
    arrays = hinge(100_000, 50).arrays
    query = Query(arrays=arrays, dtype=np.dtype(np.float64), reduction=Reduction.NONE)
    with pytest.raises(Refusal) as raised:
        bind(hinge_program(50), query, Limits(max_memory_bytes=10 << 20))
    assert raised.value.reason is Reason.LIMIT_EXCEEDED
    assert [word for word in ("max_memory_bytes", str(10 << 20)) if word not in raised.value.message] == []


def test_a_checkpoint_is_passed_between_blocks_and_may_end_the_run() -> None:
    query = Query(arrays=hinge(50_000, 30).arrays, dtype=np.dtype(np.float64))
    job = bind(hinge_program(30), query, LIMITS)
    passed: list[int] = []

    def checkpoint() -> None:
        passed.append(1)
        if len(passed) == 3:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        run(job, checkpoint)
    assert len(passed) == 3


def interrupted(times: int) -> Checkpoint:
    """A checkpoint that is passed so many times, less one."""
    passes = iter(range(times - 1))

    def checkpoint() -> None:
        if next(passes, None) is None:
            raise InterruptedError

    return checkpoint


def test_a_checkpoint_is_passed_before_each_large_instruction() -> None:
    builder = Builder()
    node = builder.parameter("w", (100_000,))
    for _ in range(10):
        node = builder.op("tanh", node)
    builder.op("sum", node)
    query = Query(arrays={"w": np.zeros(100_000)}, dtype=np.dtype(np.float64))
    job = bind(builder.program(), query, LIMITS)
    for times in (1, 12, 24):
        with pytest.raises(InterruptedError):
            run(job, interrupted(times))


@pytest.mark.parametrize("op", ["add", "mul", "max"])
def test_checkpoints_are_passed_inside_an_instruction_of_many_operands(op: str) -> None:
    builder = Builder()
    w = builder.parameter("w", (100_000,))
    builder.op("sum", builder.op(op, *[w] * 2000))
    job = bind(builder.program(), Query(arrays={"w": np.ones(100_000)}, dtype=np.dtype(np.float64)), LIMITS)
    with pytest.raises(InterruptedError):
        run(job, interrupted(10))


def test_checkpoints_are_passed_inside_a_large_product() -> None:
    builder = Builder()
    w = builder.parameter("w", (2500, 1))
    square = builder.op("matmul", w, builder.op("reshape", w, shape=(1, 2500)))
    builder.op("sum", builder.op("matmul", square, square))
    job = bind(builder.program(), Query(arrays={"w": np.ones((2500, 1))}, dtype=np.dtype(np.float64)), LIMITS)
    passed: list[int] = []
    run(job, lambda: passed.append(1))
    # The product has fifteen parts, and so have those of its two gradients.
    for times in (len(passed) - 20, len(passed) - 35):
        with pytest.raises(InterruptedError):
            run(job, interrupted(times))
    assert len(passed) > 45


def test_checkpoints_are_passed_while_a_plan_is_made() -> None:
    builder = Builder()
    node = x = builder.parameter("x")
    for _ in range(50_000):
        node = builder.op("add", node, x)
    builder.op("log", builder.op("mul", node, builder.constant(0.0)))
    program = builder.program()
    assert program.packed is not None
    query = Query(arrays={"x": np.array(1.0)}, dtype=np.dtype(np.float64))
    job = bind(program, query, LIMITS)
    assert job.plain is not None
    passed = 0

    def checkpoint() -> None:
        nonlocal passed
        passed += 1

    job.plain(checkpoint)
    in_a_plan = passed
    assert in_a_plan > 500
    # Another choice of gradients needs another one.
    other = bind(program, replace(query, wrt=()), LIMITS)
    assert other.plain is not None
    for times in range(1, in_a_plan // 2, in_a_plan // 10):
        with pytest.raises(InterruptedError):
            other.plain(interrupted(times))
        with pytest.raises(InterruptedError):
            bind(program, replace(query, outputs=(100,)), LIMITS, checkpoint=interrupted(times))
    assert run(other, nothing).non_finite is not None


def test_a_plan_that_was_given_up_leaves_nothing_to_the_next_one() -> None:
    builder = Builder()
    constant, x = builder.constant(2.0), builder.parameter("x")
    for _ in range(1000):
        constant = builder.op("tanh", constant)
    builder.op("mul", x, constant)
    # A node inside of what was packed: the graph runs as it was sent, for which there is no plan yet.
    query = Query(arrays={"x": np.array(1.0)}, dtype=np.dtype(np.float64), outputs=(500,))
    folded: list[int] = []
    for times in range(1, 1000):
        program = builder.program()
        assert program.packed is not None
        with suppress(InterruptedError):
            bind(program, query, LIMITS, checkpoint=interrupted(times))
            break
        bind(program, query, LIMITS)
        folded.append(len(program.folded))
    assert len(folded) > 10
    assert folded == [1001] * len(folded)


def test_a_checkpoint_is_passed_between_blocks_of_empty_examples() -> None:
    builder = Builder()
    builder.op("sum", builder.input("x", (0,), per_example=True))
    query = Query(arrays={"x": np.empty((1 << 31, 0))}, dtype=np.dtype(np.float64))
    with pytest.raises(InterruptedError):
        run(bind(builder.program(), query, LIMITS), interrupted(100))


def test_a_checkpoint_is_passed_between_the_nodes_of_a_graph() -> None:
    with pytest.raises(InterruptedError):
        compile_graph(many_sources(10_000).graph(), LIMITS, interrupted(10))


def many_sources(count: int) -> Builder:
    builder = Builder()
    sources = [builder.parameter(f"parameter {i}") for i in range(count)]
    builder.op("add", *sources)
    return builder


def test_checkpoints_are_passed_wherever_there_is_a_step_for_each_source() -> None:
    builder = many_sources(20_000)
    passed = 0

    def count() -> None:
        nonlocal passed
        passed += 1

    program = compile_graph(builder.graph(), LIMITS, count)
    # With one for each step of a few hundred sources in each pass over them.
    assert passed > 1000
    arrays = {source.name: np.array(1.0) for source in program.sources}
    query = Query(arrays=arrays, dtype=np.dtype(np.float64))
    bind(program, query, LIMITS)
    # There is a plan: what is left is to look at the tensors.
    with pytest.raises(InterruptedError):
        bind(program, query, LIMITS, checkpoint=interrupted(60))
    passed = 0
    job = bind_trace(program, arrays, np.dtype(np.float64), LIMITS, count)
    bound, passed = passed, 0
    # The first one makes a plan.
    run_trace(job, nothing)
    run_trace(job, count)
    ran = passed
    for times in range(1, bound, bound // 10):
        with pytest.raises(InterruptedError):
            bind_trace(program, arrays, np.dtype(np.float64), LIMITS, interrupted(times))
    assert ran > 250
    for times in range(1, ran, ran // 10):
        with pytest.raises(InterruptedError):
            run_trace(job, interrupted(times))


def test_the_estimate_of_memory_holds_for_the_objects_of_a_trace() -> None:
    builder = Builder()
    node = builder.parameter("w")
    for _ in range(5000):
        node = builder.op("add", *[node] * 4)
    job = bind_trace(builder.program(), {"w": np.array(0.0)}, np.dtype(np.float64), LIMITS, nothing)
    tracemalloc.start()
    told = run_trace(job, nothing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(told.nodes) == 5001
    assert peak <= job.memory


# What is quadratic in these takes minutes.
@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("query", "findings"),
    [
        ({"outputs": tuple(range(100_000))}, 0),
        ({"outputs": (*range(100_000), 7)}, 1),
        ({"wrt": tuple(f"unknown {i}" for i in range(100_000))}, 100_000),
        ({"wrt": ("parameter 1",) * 100_000}, 99_999),
        ({"arrays": {f"parametre {i}": np.array(1.0) for i in range(100_000)}}, 200_000),
    ],
    ids=["outputs", "an output given twice", "unknown names", "a name given often", "surplus tensors"],
)
def test_a_hundred_thousand_things_are_checked_one_by_one(query: dict[str, Any], findings: int) -> None:
    program = many_sources(100_000).program()
    arrays = {source.name: np.array(1.0) for source in program.sources}
    asked = Query(**{"arrays": arrays, "dtype": np.dtype(np.float64), **query})
    if not findings:
        bind(program, asked, LIMITS)
        return
    with pytest.raises(Refusal) as raised:
        bind(program, asked, LIMITS)
    assert (raised.value.total, len(raised.value.findings)) == (findings, min(findings, 20))


@pytest.mark.timeout(30)
def test_many_inputs_that_are_read_where_they_are() -> None:
    builder = Builder()
    w = builder.parameter("w", (1,))
    inputs = [builder.input(f"x{i}", (1,), per_example=True) for i in range(60_000)]
    builder.op("add", *(builder.op("matmul", w, x) for x in inputs))
    result = evaluate(builder.program(), {"w": [2.0], **{f"x{i}": [[3.0]] for i in range(60_000)}})
    assert (result.loss, result.gradients["w"].tolist()) == (360_000, [180_000])


def digest(result: Any) -> bytes:
    return bytes(result.loss.tobytes() + result.gradients["w"].tobytes())


def test_the_same_request_gives_the_same_bytes_beside_others_and_in_another_process() -> None:
    arrays = hinge(30_000, 30).arrays
    program = hinge_program(30)
    expected = digest(evaluate(program, arrays))
    with ThreadPoolExecutor(4) as pool:
        assert {digest(result) for result in pool.map(lambda _: evaluate(program, arrays), range(12))} == {expected}
    code = (
        "from tests.unit.engine.test_scale import *\n"
        "print(digest(evaluate(hinge_program(30), hinge(30_000, 30).arrays)).hex())"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == expected.hex()


def test_the_results_of_examples_do_not_depend_on_their_neighbours() -> None:
    arrays = hinge(10_000, 30).arrays
    program = hinge_program(30)
    every = evaluate(program, arrays, reduction=Reduction.NONE)
    some = evaluate(program, {**arrays, "phi": arrays["phi"][::2], "y": arrays["y"][::2]}, reduction=Reduction.NONE)
    np.testing.assert_allclose(some.loss, every.loss[::2], rtol=1e-13)


@pytest.mark.parametrize(
    ("limits", "setting"),
    [
        (Limits(max_tensor_bytes=8 * 99), "max_tensor_bytes"),
        (Limits(max_rank=0), "axes"),
        (Limits(max_nodes=1), r"2 nodes.*at most 1 \(max_nodes\)"),
        (Limits(max_edges=0), r"1 operands.*at most 0 \(max_edges\)"),
    ],
)
def test_limits_of_graphs(limits: Limits, setting: str) -> None:
    builder = Builder()
    builder.op("sum", builder.parameter("w", (100,)))
    with pytest.raises(Refusal, match=setting):
        compile_graph(builder.graph(), limits)


def broadcast_product(builder: Builder) -> None:
    w, x = builder.parameter("w", (50, 40)), builder.input("x", (40,), per_example=True)
    builder.op("sum", builder.op("mul", w, x))


def largest_product(builder: Builder) -> None:
    w, x = builder.parameter("w", (100,)), builder.input("x", (100,), per_example=True)
    builder.op("reduce_max", builder.op("mul", w, x))


def shared_chain(builder: Builder) -> None:
    w = builder.op("tanh", builder.op("exp", builder.parameter("w", (1000,))))
    builder.op("mul", builder.op("sum", w), builder.input("x", per_example=True))


def layer(builder: Builder) -> None:
    w, x = builder.parameter("w", (30, 40)), builder.input("x", (40,), per_example=True)
    builder.op("sum", builder.op("matmul", w, x))


@pytest.mark.parametrize("reduction", list(Reduction))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("write", [broadcast_product, largest_product, shared_chain, layer])
def test_the_estimate_of_memory_holds_for_gradients_of_examples(
    write: Callable[[Builder], None], dtype: type, reduction: Reduction
) -> None:
    builder = Builder()
    write(builder)
    program = builder.program()
    arrays: dict[str, Any] = {
        source.name: np.ones(((5000,) if source.per_example else ()) + source.shape, dtype)
        for source in program.sources
    }
    query = Query(arrays=arrays, dtype=np.dtype(dtype), reduction=reduction, wrt=tuple(arrays))
    job = bind(program, query, LIMITS)
    run(job, nothing)
    tracemalloc.start()
    run(job, nothing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak <= job.memory


def products(builder: Builder) -> None:
    product = builder.op("mul", builder.parameter("w", (50, 30)), builder.input("x", (30,), per_example=True))
    builder.op("sum", builder.op("power", builder.op("sum", product, axes=(-1,)), exponent=0.5))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("number", [0.0, np.nan])
def test_the_estimate_of_memory_holds_for_what_runs_again_as_it_is_written(number: float, dtype: type) -> None:
    builder = Builder()
    products(builder)
    program = builder.program()
    arrays: dict[str, Any] = {"w": np.full((50, 30), number, dtype), "x": np.full((5000, 30), number, dtype)}
    job = bind(program, Query(arrays=arrays, dtype=np.dtype(dtype), reduction=Reduction.NONE), LIMITS)
    run(job, nothing)
    program.idle.clear()
    tracemalloc.start()
    result = run(job, nothing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert result.non_finite is not None
    assert peak <= job.memory


def perceptron(builder: Builder) -> None:
    w, x = builder.parameter("w", (40, 30)), builder.input("x", (30,), per_example=True)
    hidden = builder.op("power", builder.op("matmul", w, x), exponent=0.5)
    builder.op(
        "sum",
        builder.op("mul", builder.op("matmul", builder.parameter("v", (5, 40)), hidden), builder.parameter("b", (5,))),
    )


def packed(builder: Builder) -> None:
    """All alive, and as wide as deep."""
    operations: list[Any] = [("mul", [k % 20, 20 + k % 7]) for k in range(300)]
    operations += [(("tanh", [27 + k]) if k % 2 else ("power", [27 + k], 0.5)) for k in range(300)]
    x, w = builder.input("x", (20,), per_example=True), builder.parameter("w", (7,))
    builder.op("sum", builder.op("scalars", x, w, **columns(operations, list(range(327, 627)))))


def packed_with_dead_ones(builder: Builder) -> None:
    operations: list[Any] = [("power", [0], 0.5), *(("mul", [2 + k, 1]) for k in range(1000))]
    w, x = builder.parameter("w"), builder.input("x", per_example=True)
    builder.op("sum", builder.op("scalars", w, x, **columns(operations, [2, 12])))


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("reduction", [Reduction.MEAN, Reduction.NONE])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("examples", [1, 5000])
@pytest.mark.parametrize("write", [perceptron, packed, packed_with_dead_ones])
def test_the_estimate_of_memory_holds_for_finite_numbers_and_others_and_is_not_far_above(
    write: Callable[[Builder], None], examples: int, dtype: type, reduction: Reduction, threads: int
) -> None:
    builder = Builder()
    write(builder)
    program = builder.program()
    peaks = []
    # The root of zero has a gradient that is not finite.
    for number in (1.0, 0.0, np.nan):
        arrays: dict[str, Any] = {
            source.name: np.full(((examples,) if source.per_example else ()) + source.shape, number, dtype)
            for source in program.sources
        }
        job = bind(program, Query(arrays=arrays, dtype=np.dtype(dtype), reduction=reduction), LIMITS, threads)
        pool = Threads(threads)
        run(job, nothing, pool)
        program.idle.clear()
        tracemalloc.start()
        result = run(job, nothing, pool)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert (result.non_finite is None) == (number == 1)
    # What runs again as it is written takes more than what runs at first.
    largest = max(peaks) if job.plain else peaks[0]
    assert max(peaks) <= job.memory
    if threads == 1:  # Two need not have been at it at the same time.
        assert job.memory <= max(12 << 20, 3 * largest)
