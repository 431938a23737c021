"""Graphs of many operations on scalars, which run packed: against the graph as it is, and other libraries."""

from __future__ import annotations

import re
import tracemalloc
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from gradwire_server.engine import (
    Constant,
    Evaluation,
    Graph,
    Input,
    Limits,
    Node,
    Nodes,
    NonFinite,
    Operation,
    Parameter,
    Program,
    Query,
    Reduction,
    Ties,
    bind,
    bind_check,
    compile_graph,
    packing,
    run,
    run_check,
    trace,
    unhurried,
)
from gradwire_server.errors import Refusal
from tests.unit.engine.graphs import LIMITS, Builder, evaluate, nothing, refusal_of
from tests.unit.engine.test_random_graphs import MODERATE, SETTINGS, TORCH, WRITE

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -30.0, 1e4, 1e30, np.inf]) | st.floats(-3, 3)
ANY = (("add", "mul", "max"), ("sigmoid", "exp", "log", "tanh", "softplus"), (0.0, 1.0, 2.0, -1.0, 0.5, 3.0))
SMOOTH = (("add", "mul"), ("sigmoid", "exp", "tanh", "softplus"), (0.0, 1.0, 2.0, 3.0))
"""Operations on several operands, those on one, and exponents."""


@contextmanager
def packed_from(count: float) -> Iterator[None]:
    """Have operations on scalars packed where there are so many, whatever that saves."""
    with patch.object(packing, "PACKED_FROM", count), patch.object(packing, "SAVED", -np.inf):
        yield


def both(graph: Graph) -> tuple[Program, Program]:
    """The graph with its operations on scalars packed, and as it is."""
    with packed_from(1):
        packed = compile_graph(graph, LIMITS)
    with packed_from(np.inf):
        plain = compile_graph(graph, LIMITS)
    assert plain.packed is None
    return packed, plain


@st.composite
def swarms(draw: st.DrawFn, *, smooth: bool = False) -> tuple[Builder, dict[str, Any]]:
    """A graph of operations on scalars, with others among them, and numbers for it; a smooth one has no kinks."""
    builder, arrays = Builder(), {}
    examples = draw(st.integers(1, 3))
    numbers = st.floats(-1.5, 1.5, width=16) if smooth else NUMBERS
    nary, unary, exponents = SMOOTH if smooth else ANY
    vectors: list[int] = []
    scalars = [builder.constant(draw(numbers))]
    for number in range(draw(st.integers(1, 4))):
        name, per_example = f"s{number}", draw(st.booleans())
        shape = draw(st.sampled_from([(), (), (2,)]))
        source = builder.input(name, shape, per_example=True) if per_example else builder.parameter(name, shape)
        (vectors if shape else scalars).append(source)
        size = (examples if per_example else 1) * (2 if shape else 1)
        drawn = draw(st.lists(numbers, min_size=size, max_size=size))
        arrays[name] = np.reshape(drawn, ((examples,) if per_example else ()) + shape)
    for kind in draw(
        st.lists(st.sampled_from(["nary"] * 6 + ["unary"] * 4 + ["power", "take", "vector", "sum"]), max_size=25)
    ):
        some = st.sampled_from(scalars[-6:] + scalars[:2])
        if kind == "nary":
            op = draw(st.sampled_from(nary))
            scalars.append(builder.op(op, *draw(st.lists(some, min_size=2, max_size=4))))
        elif kind == "unary":
            scalars.append(builder.op(draw(st.sampled_from(unary)), draw(some)))
        elif kind == "power":
            scalars.append(builder.op("power", draw(some), exponent=draw(st.sampled_from(exponents))))
        elif kind == "vector":
            other = builder.constant(np.array([1.0, draw(numbers)]))
            vectors.append(builder.op(draw(st.sampled_from(nary)), draw(some), other))
        elif vectors:
            vector = draw(st.sampled_from(vectors))
            if kind == "take":
                scalars.append(builder.op("take", vector, builder.constant(np.array(draw(st.integers(-2, 1))))))
            else:
                scalars.append(builder.op("sum", vector))
    builder.op("add", *draw(st.lists(st.sampled_from(scalars[-8:]), min_size=2, max_size=4)))
    return builder, arrays


@st.composite
def questions(draw: st.DrawFn, arrays: Mapping[str, Any]) -> dict[str, Any]:
    """What to ask of a graph."""
    return {
        "wrt": draw(st.none() | st.lists(st.sampled_from(sorted(arrays)), unique=True).map(tuple)),
        "reduction": draw(st.sampled_from(list(Reduction))),
        "dtype": draw(st.sampled_from([np.float64, np.float32])),
    }


def bits(array: Any) -> tuple[object, ...]:
    array = np.asarray(array)
    return array.shape, array.dtype, np.where(np.isnan(array), np.nan, array).tobytes()


def told(report: NonFinite | None) -> str:
    """What a report says, in full."""
    return repr(report)


def assert_same(packed: Evaluation, plain: Evaluation, tolerance: float) -> None:
    """What came of a graph with its operations on scalars packed is what came of it as it is."""
    assert bits(packed.loss) == bits(plain.loss)
    assert told(packed.non_finite) == told(plain.non_finite)
    assert list(packed.outputs) == list(plain.outputs)
    for node, value in plain.outputs.items():
        assert bits(packed.outputs[node]) == bits(value)
    assert list(packed.gradients) == list(plain.gradients)
    for name, gradient in plain.gradients.items():
        if plain.non_finite is not None:
            assert bits(packed.gradients[name]) == bits(gradient)
            continue
        scale = float(np.abs(gradient).max(initial=1.0))
        np.testing.assert_allclose(packed.gradients[name], gradient, rtol=tolerance, atol=tolerance * scale)


@SETTINGS
@given(st.data())
def test_what_comes_of_a_packed_graph_is_what_comes_of_it_as_it_is(data: st.DataObject) -> None:
    builder, arrays = data.draw(swarms())
    graph = builder.graph(ties=data.draw(st.sampled_from(list(Ties))))
    packed, plain = both(graph)
    asked = data.draw(questions(arrays))
    outputs = data.draw(st.lists(st.sampled_from(range(len(graph.nodes))), unique=True, max_size=2))
    for nodes in ((), tuple(outputs)):
        ours, theirs = (evaluate(program, arrays, **asked, outputs=nodes) for program in (packed, plain))
        assert_same(ours, theirs, 1e-9 if asked["dtype"] is np.float64 else 1e-3)


@SETTINGS
@given(swarms(), st.sampled_from([np.float64, np.float32]))
def test_a_trace_is_of_the_graph_as_it_is(case: tuple[Builder, dict[str, Any]], dtype: type) -> None:
    builder, arrays = case
    batched = per_example(builder)
    first: dict[str, Any] = {
        name: np.asarray(array[0] if name in batched else array, dtype) for name, array in arrays.items()
    }
    packed, plain = (trace(program, first, np.dtype(dtype), LIMITS, nothing) for program in both(builder.graph()))
    assert repr(packed) == repr(plain)


@SETTINGS
@given(swarms(smooth=True), st.sampled_from(list(Reduction)))
def test_value_and_gradient_are_those_of_torch(case: tuple[Builder, dict[str, Any]], reduction: Reduction) -> None:
    builder, arrays = case
    packed, _ = both(builder.graph())
    names = tuple(arrays)
    result = evaluate(packed, arrays, wrt=names, reduction=reduction)
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    batched = per_example(builder)
    count = len(arrays[batched[0]]) if batched else 1
    losses: list[Any] = []
    largest = 1.0
    for example in range(count):
        values: list[Any] = []
        for node in builder.nodes:
            values.append(in_torch(node, values, tensors, batched, example))
        losses.append(values[-1])
        largest = max(largest, *(float(value.detach().double().abs().max()) for value in values))
    if largest > MODERATE:
        return
    total: Any = torch.stack(losses).sum() / (count if reduction is Reduction.MEAN else 1)
    # It may depend on none of them.
    (total + sum(0 * tensor.sum() for tensor in tensors.values())).backward()
    found = float(np.sum(result.loss))
    np.testing.assert_allclose(found, float(total.detach()), rtol=1e-9, atol=1e-9 * largest)
    for name, tensor in tensors.items():
        slope = np.zeros_like(arrays[name]) if tensor.grad is None else tensor.grad.numpy()
        ours = result.gradients[name]
        if reduction is Reduction.NONE and batched and name not in batched:
            ours = ours.sum(axis=0)
        scale = largest * max(1.0, float(np.abs(slope).max()))
        np.testing.assert_allclose(ours, slope, rtol=1e-9, atol=1e-11 * scale)


def per_example(builder: Builder) -> list[str]:
    """Names of the inputs that each example has of its own."""
    return [node.name for node in builder.nodes if isinstance(node, Input) and node.per_example]


def in_torch(node: Node, values: list[Any], tensors: Mapping[str, Any], batched: list[str], example: int) -> Any:
    """The value of a node for an example, given those before it."""
    if isinstance(node, Constant):
        return torch.tensor(node.value)
    if not isinstance(node, Operation):
        return tensors[node.name][example] if node.name in batched else tensors[node.name]
    operands = [values[operand] for operand in node.operands]
    if node.op == "take":
        return operands[0][int(operands[1])]
    return WRITE[node.op](TORCH, operands, node.attributes)


@SETTINGS
@given(swarms(smooth=True))
def test_a_check_finds_that_gradients_are_those_of_finite_differences(case: tuple[Builder, dict[str, Any]]) -> None:
    builder, arrays = case
    packed, _ = both(builder.graph())
    result = evaluate(packed, arrays, outputs=tuple(range(len(builder.nodes))))
    largest = max(float(np.abs(value).max()) for value in result.outputs.values())
    if result.non_finite is None and largest < 100:
        given = {name: np.asarray(array, np.float64) for name, array in arrays.items()}
        checks = run_check(bind_check(packed, given, dtype=np.dtype(np.float64), limits=LIMITS), nothing)
        assert [check.name for check in checks if not check.passed] == []


@SETTINGS
@given(st.data())
def test_the_graph_as_it_is_runs_in_the_memory_that_is_counted_for_both(data: st.DataObject) -> None:
    builder, arrays = data.draw(swarms())
    packed, _ = both(builder.graph())
    asked = data.draw(questions(arrays))
    batched, times = per_example(builder), data.draw(st.sampled_from([1, 500]))
    given = {
        name: np.concatenate([array] * times, dtype=asked["dtype"]) if name in batched else array.astype(asked["dtype"])
        for name, array in arrays.items()
    }
    query = Query(arrays=given, **(asked | {"dtype": np.dtype(asked["dtype"])}))
    job = bind(packed, query, LIMITS, 4)
    if job.runs is not packed:
        assert job.plain is not None
        assert job.plain(unhurried).memory <= job.memory
    assert packed.packed is None or packed.packed.program.nbytes < packed.nbytes


def chain(nodes: int, *wrong: tuple[int, int]) -> Builder:
    """A chain of additions, of whose nodes some have a wrong operand."""
    builder = Builder()
    builder.parameter("x")
    operands = dict(wrong)
    for node in range(1, nodes):
        builder.op("add", operands.get(node, node - 1), 0)
    return builder


def test_a_wrong_operand_far_behind_is_told_as_anywhere() -> None:
    refusal = refusal_of(chain(100_000, (70_000, 70_000), (70_005, 200_000), (70_007, -3), (70_009, 2**40)))
    past, below = "past the end of 100000 nodes; give an index below", "operands come first, so give an index below"
    assert [(finding.path, finding.message) for finding in refusal.findings] == [
        (f"nodes[{node}].add.operands[0]", f"node add_{node} (nodes[{node}]): operand 0 is index {told} {node}")
        for node, told in (
            (70_000, f"70000, the node itself; {below}"),
            (70_005, f"200000, {past}"),
            (70_007, f"-3, {past}"),
            (70_009, f"{2**40}, {past}"),
        )
    ]


WRONG: list[Callable[[Builder], object]] = [
    lambda b: b.op("add", 1),
    lambda b: b.op("tanh", 1, 2),
    lambda b: b.op("power", 1),
    lambda b: b.op("power", 1, exponent=np.inf),
    lambda b: b.op("tanh", b.constant(np.array(1))),
    lambda b: b.op("add", b.parameter("v", (2,)), b.parameter("u", (3,))),
    lambda b: b.op("add", b.op("matmul", 0, 0), 1),
    lambda b: b.op("tanh", 1, name="x"),
    lambda b: b.op("tanh", 1, name="a\nb"),
    lambda b: b.op("tanh", 1, name="a" * 300),
    lambda b: b.op("rotate", 1),
    lambda b: b.op("add", 1, b.parameter("v", (2,))),
    lambda b: b.parameter(""),
]


@pytest.mark.parametrize("write", WRONG, ids=range(len(WRONG)))
def test_what_is_wrong_among_many_scalars_is_told_as_among_few(write: Callable[[Builder], object]) -> None:
    def findings(nodes: int) -> list[tuple[str, str]]:
        builder = chain(nodes)
        write(builder)
        return [
            (re.sub(r"\d\d+", "N", finding.path), re.sub(r"\d\d+", "N", finding.message))
            for finding in refusal_of(builder).findings
        ]

    few = findings(20)
    assert few
    assert findings(2000) == few


def test_an_index_out_of_range_is_told_of_the_node_as_it_was_sent() -> None:
    builder = chain(300)
    rows = builder.input("rows", per_example=True, integer=True)
    taken = builder.op("take", builder.parameter("w", (3,)), rows)
    builder.op("mul", 299, taken)
    program = builder.program()
    assert program.packed is not None
    with pytest.raises(Refusal) as raised:
        evaluate(program, {"x": 1.0, "w": [1.0, 2.0, 3.0], "rows": np.array([0, 7])})
    [finding] = raised.value.findings
    assert finding.path == f"graph.nodes[{taken}]"
    assert finding.message == (
        f'node "take_{taken}" (nodes[{taken}]): index 7 at position () of example 1 is out of range for 3 rows'
    )


def test_what_is_too_large_is_told_with_a_node_as_it_was_sent() -> None:
    builder = chain(300)
    wide = builder.op("mul", 299, builder.input("x", (1000,), per_example=True))
    builder.nodes[0] = Parameter(name="w", shape=())
    builder.op("sum", wide)
    program = builder.program()
    assert program.packed is not None
    query = Query(arrays={"w": np.array(1.0), "x": np.ones((5, 1000))}, dtype=np.dtype(np.float64))
    with pytest.raises(Refusal, match=r"largest tensor is node .* of shape \(1000,\)"):
        bind(program, query, Limits(max_memory_bytes=1000))


def test_operations_on_scalars_are_packed_from_some_number_on_and_where_that_saves_nodes() -> None:
    assert chain(packing.PACKED_FROM).program().packed is None
    assert chain(packing.PACKED_FROM + 1).program().packed is not None
    builder = Builder()
    node = builder.parameter("x")
    for _ in range(packing.PACKED_FROM):
        node = builder.op("sum", builder.op("tanh", node))
    assert builder.program().packed is None


def test_the_estimate_of_what_a_program_takes_holds_when_the_graph_ran_as_it_is() -> None:
    tracemalloc.start()
    builder = chain(3000)
    program = builder.program()
    query = Query(arrays={"x": np.array(np.nan)}, dtype=np.dtype(np.float64))
    for outputs in ((), *((node,) for node in range(100, 120))):
        assert run(bind(program, replace(query, outputs=outputs), LIMITS), nothing).non_finite is not None
    del builder
    taken = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert program.packed is not None
    assert taken <= program.nbytes


def test_nodes_are_the_same_in_columns() -> None:
    builder = chain(5)
    builder.op("power", 4, exponent=2.0, name="p")
    builder.op("sum", builder.constant([1.0]))
    nodes = Nodes.of(builder.nodes)
    assert len(nodes) == len(builder.nodes)
    assert list(nodes) == builder.nodes
    assert nodes[1:4] == tuple(builder.nodes[1:4])
    assert nodes[-3] == builder.nodes[-3]
    with pytest.raises(IndexError):
        nodes[8]
