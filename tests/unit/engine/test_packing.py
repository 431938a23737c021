"""Graphs of many operations on scalars, which run packed: against the graph as it is, and other libraries."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from gradwire_server.engine import Evaluation, Graph, NonFinite, Program, Reduction, Ties, compile_graph, packing
from tests.unit.engine.graphs import LIMITS, Builder, evaluate
from tests.unit.engine.test_random_graphs import SETTINGS

NUMBERS = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, -30.0, 1e4, 1e30, np.inf]) | st.floats(-3, 3)
UNARY = ("sigmoid", "exp", "log", "tanh", "softplus")


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
def swarms(draw: st.DrawFn) -> tuple[Builder, dict[str, Any]]:
    """A graph of operations on scalars, with others among them, and numbers for it."""
    builder, arrays = Builder(), {}
    examples = draw(st.integers(1, 3))
    vectors: list[int] = []
    scalars = [builder.constant(draw(NUMBERS))]
    for number in range(draw(st.integers(1, 4))):
        name, per_example = f"s{number}", draw(st.booleans())
        shape = draw(st.sampled_from([(), (), (2,)]))
        source = builder.input(name, shape, per_example=True) if per_example else builder.parameter(name, shape)
        (vectors if shape else scalars).append(source)
        size = (examples if per_example else 1) * (2 if shape else 1)
        numbers = draw(st.lists(NUMBERS, min_size=size, max_size=size))
        arrays[name] = np.reshape(numbers, ((examples,) if per_example else ()) + shape)
    for kind in draw(
        st.lists(st.sampled_from(["nary"] * 6 + ["unary"] * 4 + ["power", "take", "vector", "sum"]), max_size=25)
    ):
        some = st.sampled_from(scalars[-6:] + scalars[:2])
        if kind == "nary":
            op = draw(st.sampled_from(["add", "mul", "max"]))
            scalars.append(builder.op(op, *draw(st.lists(some, min_size=2, max_size=4))))
        elif kind == "unary":
            scalars.append(builder.op(draw(st.sampled_from(UNARY)), draw(some)))
        elif kind == "power":
            exponent = draw(st.sampled_from([0.0, 1.0, 2.0, -1.0, 0.5, 3.0]))
            scalars.append(builder.op("power", draw(some), exponent=exponent))
        elif kind == "vector":
            other = builder.constant(np.array([1.0, draw(NUMBERS)]))
            vectors.append(builder.op(draw(st.sampled_from(["add", "mul", "max"])), draw(some), other))
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
