"""Depth, width, and that neither the machine nor the order of calls shows in a result."""

from __future__ import annotations

import gc
import subprocess
import sys
import tracemalloc
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from gradwire_server.codec.graphs import decode_graph
from gradwire_server.engine.checkpoints import Checkpoint
from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.engine.run.job import bind
from gradwire_server.engine.run.program import compile_graph
from gradwire_server.engine.run.query import Query
from gradwire_server.engine.run.tracing import bind_trace, run_trace
from gradwire_server.errors import Reason, Refusal
from gradwire_server.limits import Limits
from tests.losses import hinge
from tests.unit.engine.building import LIMITS, Builder, evaluate, nothing
from tests.unit.engine.test_hinge import program as hinge_program

ROOT = Path(__file__).parents[3]
FLOAT64 = np.dtype(np.float64)


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


def transposes(count: int) -> Builder:
    builder = Builder()
    node = builder.parameter("w", (2, 2))
    for _ in range(count):
        node = builder.op("transpose", node, axes=(1, 0))
    builder.op("sum", node)
    return builder


def test_a_graph_that_would_not_be_kept_is_refused_before_it_is_lowered() -> None:
    graph = transposes(5000).graph()
    kept = compile_graph(graph, LIMITS).nbytes
    assert compile_graph(graph, LIMITS, max_cache_bytes=kept).nbytes == kept
    with pytest.raises(Refusal, match="max_cache_bytes") as raised:
        compile_graph(graph, LIMITS, max_cache_bytes=kept - 1)
    assert raised.value.reason is Reason.LIMIT_EXCEEDED


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
    query = Query(arrays=arrays, dtype=FLOAT64, reduction=Reduction.NONE)
    for _ in range(2):
        with pytest.raises(Refusal) as raised:
            bind(hinge_program(50), query, Limits(max_memory_bytes=10 << 20))
        assert raised.value.reason is Reason.LIMIT_EXCEEDED
        assert [word for word in ("max_memory_bytes", str(10 << 20)) if word not in raised.value.message] == []


def test_the_limit_of_memory_holds_also_for_requests_like_one_that_was_taken() -> None:
    program, arrays = hinge_program(50), hinge(100_000, 50).arrays
    query = Query(arrays=arrays, dtype=FLOAT64, reduction=Reduction.NONE)
    bind(program, query, LIMITS)
    with pytest.raises(Refusal, match="max_memory_bytes"):
        bind(program, query, Limits(max_memory_bytes=10 << 20))


def interrupted(times: int) -> Checkpoint:
    """A checkpoint that is passed so many times, less one."""
    passes = iter(range(times - 1))

    def checkpoint() -> None:
        if next(passes, None) is None:
            raise InterruptedError

    return checkpoint


def passes_of(work: Callable[[Checkpoint], object]) -> int:
    """How often some work passes a checkpoint."""
    passed = 0

    def checkpoint() -> None:
        nonlocal passed
        passed += 1

    work(checkpoint)
    return passed


def many_sources(count: int) -> Builder:
    builder = Builder()
    builder.op("add", *[builder.parameter(f"parameter {i}") for i in range(count)])
    return builder


def many_tensors(count: int) -> Builder:
    builder = Builder()
    node = builder.parameter("w", (2,))
    for _ in range(count):
        node = builder.op("tanh", node)
    builder.op("sum", node)
    return builder


@pytest.mark.parametrize("write", [many_sources, many_tensors])
def test_registration_passes_checkpoints_and_may_be_given_up_anywhere(write: Callable[[int], Builder]) -> None:
    graph = write(10_000).graph()
    passed = passes_of(lambda checkpoint: compile_graph(graph, LIMITS, checkpoint))
    # Some for each of a few hundred steps, in each pass over the nodes.
    assert passed > 20
    for times in range(1, passed, passed // 10):
        with pytest.raises(InterruptedError):
            compile_graph(graph, LIMITS, interrupted(times))


def test_code_that_was_given_up_leaves_nothing_to_the_next() -> None:
    program = many_tensors(3000).program()
    query = Query(arrays={"w": np.ones(2)}, dtype=FLOAT64, outputs=(500,))
    expected = evaluate(many_tensors(3000).program(), {"w": np.ones(2)}, outputs=(500,))
    given_up = 0
    for times in range(1, 1000):
        with suppress(InterruptedError):
            bind(program, query, LIMITS, checkpoint=interrupted(times))
            break
        given_up += 1
    assert given_up > 3
    result = evaluate(program, {"w": np.ones(2)}, outputs=(500,))
    assert result.outputs[500].tobytes() == expected.outputs[500].tobytes()
    assert result.gradients["w"].tobytes() == expected.gradients["w"].tobytes()


def test_checkpoints_are_passed_wherever_there_is_a_step_for_each_source() -> None:
    program = many_sources(20_000).program()
    arrays = {source.name: np.array(1.0) for source in program.sources}
    query = Query(arrays=arrays, dtype=FLOAT64)
    assert passes_of(lambda checkpoint: bind(program, query, LIMITS, checkpoint=checkpoint)) > 20
    assert passes_of(lambda checkpoint: bind_trace(program, arrays, FLOAT64, LIMITS, checkpoint)) > 20
    job = bind_trace(program, arrays, FLOAT64, LIMITS)
    ran = passes_of(lambda checkpoint: run_trace(job, checkpoint))
    assert ran > 100
    for times in range(1, ran, ran // 10):
        with pytest.raises(InterruptedError):
            run_trace(job, interrupted(times))


MANY = 30_000
"""Things of which what is quadratic takes minutes."""


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("query", "findings"),
    [
        ({"outputs": tuple(range(MANY))}, 0),
        ({"outputs": (*range(MANY), 7)}, 1),
        ({"wrt": tuple(f"unknown {i}" for i in range(MANY))}, MANY),
        ({"wrt": ("parameter 1",) * MANY}, MANY - 1),
        ({"arrays": {f"parametre {i}": np.array(1.0) for i in range(MANY)}}, 2 * MANY),
    ],
    ids=["outputs", "an output given twice", "unknown names", "a name given often", "surplus tensors"],
)
def test_many_things_are_checked_one_by_one(query: dict[str, Any], findings: int) -> None:
    program = many_sources(MANY).program()
    arrays = {source.name: np.array(1.0) for source in program.sources}
    asked = Query(**{"arrays": arrays, "dtype": FLOAT64, **query})
    if not findings:
        bind(program, asked, LIMITS)
        return
    with pytest.raises(Refusal) as raised:
        bind(program, asked, LIMITS)
    assert (raised.value.total, len(raised.value.findings)) == (findings, min(findings, 20))


@pytest.mark.timeout(60)
def test_many_inputs_that_are_read_where_they_are() -> None:
    builder = Builder()
    w = builder.parameter("w", (1,))
    inputs = [builder.input(f"x{i}", (1,), per_example=True) for i in range(MANY)]
    builder.op("add", *(builder.op("matmul", w, x) for x in inputs))
    result = evaluate(builder.program(), {"w": [2.0], **{f"x{i}": [[3.0]] for i in range(MANY)}})
    assert (result.loss, result.gradients["w"].tolist()) == (6 * MANY, [3 * MANY])


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


def test_what_was_asked_before_does_not_show() -> None:
    arrays, other = hinge(3000, 30).arrays, hinge(700, 30).arrays
    expected = {reduction: evaluate(hinge_program(30), arrays, reduction=reduction) for reduction in Reduction}
    program = hinge_program(30)
    for reduction in (*Reduction, *reversed(Reduction)):
        evaluate(program, other, np.float32, reduction=reduction)
        assert digest(evaluate(program, arrays, reduction=reduction)) == digest(expected[reduction])


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
        compile_graph(decode_graph(builder.message(), limits), limits)


def test_the_estimate_of_memory_holds_for_the_objects_of_a_trace() -> None:
    builder = Builder()
    node = builder.parameter("w")
    for _ in range(5000):
        node = builder.op("add", *[node] * 4)
    job = bind_trace(builder.program(), {"w": np.array(0.0)}, FLOAT64, LIMITS)
    run_trace(job, nothing)
    tracemalloc.start()
    told = run_trace(job, nothing)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(told.nodes) == 5001
    assert peak <= job.memory
