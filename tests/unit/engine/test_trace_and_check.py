"""Tracing one example, and checking gradients against finite differences."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwire_server.engine import OPS, Op, Phase, Reduction, SourceCheck, Ties, Trace, bind_check, run_check, trace
from gradwire_server.errors import Refusal
from tests.unit.engine.graphs import LIMITS, Builder, evaluate, nothing


def traced(builder: Builder, arrays: dict[str, Any], ties: Ties = Ties.ZERO) -> Trace:
    given = {name: np.asarray(value) for name, value in arrays.items()}
    return trace(builder.program(ties=ties), given, np.dtype(np.float64), LIMITS, nothing)


def test_gradients_of_edges_add_up_to_those_of_nodes() -> None:
    builder = Builder()
    w = builder.parameter("w")
    s = builder.op("sigmoid", w, name="s")
    product = builder.op("mul", s, s, w)
    builder.op("add", product, s)
    nodes = traced(builder, {"w": 0.0}).nodes
    assert [float(node.value) for node in nodes] == [0, 0.5, 0, 0.5]
    assert [node.op for node in nodes] == ["parameter", "sigmoid", "mul", "add"]
    assert [
        [(edge.node, float(edge.gradient)) for edge in node.operands if edge.gradient is not None] for node in nodes
    ] == [
        [],
        [(0, 0.25)],
        [(1, 0), (1, 0), (0, 0.25)],
        [(2, 1), (1, 1)],
    ]
    assert [float(node.gradient) for node in nodes if node.gradient is not None] == [0.5, 1, 1, 1]
    for index, node in enumerate(nodes[:-1]):
        edges = [e.gradient for n in nodes for e in n.operands if e.node == index and e.gradient is not None]
        assert node.gradient == sum(edges)


def test_an_edge_has_the_shape_of_its_operand() -> None:
    builder = Builder()
    wide, narrow = builder.parameter("wide", (2, 3)), builder.parameter("narrow", (3,))
    builder.op("sum", builder.op("mul", wide, narrow))
    edges = traced(builder, {"wide": np.ones((2, 3)), "narrow": [1.0, 2.0, 3.0]}).nodes[2].operands
    assert [edge.gradient.tolist() for edge in edges if edge.gradient is not None] == [
        [[1, 2, 3], [1, 2, 3]],
        [2, 2, 2],
    ]


def test_row_indices_have_no_gradient_and_dead_nodes_zeros() -> None:
    builder = Builder()
    rows, indices = builder.parameter("rows", (2,)), builder.constant(np.array(1))
    taken = builder.op("take", rows, indices)
    builder.op("exp", taken)
    program = builder.program(taken)
    nodes = trace(program, {"rows": np.array([1.0, 2.0])}, np.dtype(np.float64), LIMITS, nothing).nodes
    assert (nodes[1].gradient, nodes[2].operands[1].gradient) == (None, None)
    assert (nodes[3].value, nodes[3].gradient) == (np.exp(2), 0)


def test_per_example_inputs_are_traced_without_an_axis_of_examples() -> None:
    builder = Builder()
    builder.op("mul", builder.input("x", per_example=True), builder.parameter("w"))
    assert traced(builder, {"x": 3.0, "w": 2.0}).nodes[2].value == 6
    with pytest.raises(Refusal, match=r'"x".*\(1,\).*\(\)'):
        traced(builder, {"x": [3.0], "w": 2.0})


def test_a_trace_reports_what_is_not_finite() -> None:
    builder = Builder()
    builder.op("log", builder.parameter("w"), name="logarithm")
    report = traced(builder, {"w": 0.0}).non_finite
    assert report is not None
    assert (report.phase, report.name) == (Phase.VALUE, "logarithm")


def test_gradients_that_are_not_finite_are_traced_to_the_end() -> None:
    builder = Builder()
    double = builder.op("mul", builder.parameter("w"), builder.constant(2.0))
    root = builder.op("power", double, exponent=0.5, name="root")
    builder.op("mul", root, builder.parameter("v"))
    result = traced(builder, {"w": 0.0, "v": 1.0})
    assert result.non_finite is not None
    assert (result.non_finite.phase, result.non_finite.name) == (Phase.GRADIENT, "root")
    gradients = [float(node.gradient) for node in result.nodes if node.gradient is not None]
    np.testing.assert_equal(gradients, [np.inf, np.nan, np.inf, 1, 0, 1])


def checked(
    builder: Builder, arrays: dict[str, Any], dtype: type = np.float64, **options: Any
) -> tuple[SourceCheck, ...]:
    given: dict[str, Any] = {name: np.asarray(value, dtype) for name, value in arrays.items()}
    return run_check(bind_check(builder.program(), given, dtype=np.dtype(dtype), limits=LIMITS, **options), nothing)


def cube() -> Builder:
    builder = Builder()
    product = builder.op("mul", builder.parameter("w", (3,)), builder.input("x", (3,), per_example=True))
    builder.op("sum", builder.op("power", product, exponent=3.0))
    return builder


ARRAYS = {"w": [1.0, -2.0, 0.5], "x": [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]]}


@pytest.mark.parametrize("reduction", [Reduction.MEAN, Reduction.SUM])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_right_gradient_passes(reduction: Reduction, dtype: type) -> None:
    results = checked(cube(), ARRAYS, dtype, reduction=reduction, wrt=("w", "x"))
    assert [(result.name, result.passed, result.probed, result.failed) for result in results] == [
        ("w", True, 3, 0),
        ("x", True, 6, 0),
    ]


def test_a_wrong_derivative_fails_where_it_is_wrong(monkeypatch: pytest.MonkeyPatch) -> None:
    right = OPS["power"]

    def wrong(*arguments: Any) -> Any:
        [slope] = right.vjp(*arguments)
        return [slope * np.array([1.0, 1.001, 1.0])[:, np.newaxis]]

    table = {**OPS, "power": Op(**{**vars(right), "vjp": wrong, "kernel": None})}
    monkeypatch.setattr("gradwire_server.engine.compiler.OPS", table)
    [result] = checked(cube(), ARRAYS)
    assert (result.passed, result.failed, result.worst_position) == (False, 1, (1,))
    np.testing.assert_allclose(result.relative_error, 1e-3, rtol=0.01)
    np.testing.assert_allclose(result.numeric, evaluate_slope(), rtol=1e-8)


def evaluate_slope() -> float:
    return float(np.mean([3 * (-2.0 * x) ** 2 * x for x in (2.0, 5.0)]))


def test_a_checkpoint_is_passed_before_each_probe_of_a_loss_that_is_no_operation() -> None:
    builder = Builder()
    w = builder.parameter("w")
    builder.parameter("others", (50,))
    passed: list[int] = []
    arrays = {"w": np.array(1.0), "others": np.zeros(50)}
    dtype = np.dtype(np.float64)
    run_check(bind_check(builder.program(w), arrays, dtype=dtype, limits=LIMITS), lambda: passed.append(1))
    assert len(passed) >= 51


def test_probes_are_spread_evenly() -> None:
    builder = Builder()
    builder.op("sum", builder.op("exp", builder.parameter("w", (1000,))))
    [result] = checked(builder, {"w": np.zeros(1000)}, max_probes=7)
    assert result.probed == 7


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"reduction": Reduction.NONE}, "mean or sum"),
        ({"step": 0.0}, "step is 0"),
        ({"tolerance": -1.0}, "tolerance is -1"),
        ({"max_probes": 0}, "max_probes is 0"),
        ({"step": float("nan")}, "step is nan"),
        ({"step": float("inf")}, "step is inf; it must be finite and above 0"),
        ({"step": 1e-30}, r'step is 1e-30, .* element \(0,\) of parameter "w", 1.0, is lost in float64; .* larger'),
        ({"step": 5e-324}, r'step is 5e-324, .* element \(0,\) of parameter "w", 1.0, is lost'),
        ({"step": 1e308, "wrt": ("x",)}, r'element \(0, 0\) of input "x", 1.0, leaves the range .* smaller'),
    ],
)
def test_settings_that_make_no_sense(options: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        checked(cube(), ARRAYS, **options)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_no_number_has_no_gradient_that_agrees(value: float) -> None:
    [result] = checked(cube(), {**ARRAYS, "w": [value, 0.0, 0.0]})
    assert (result.passed, result.worst_position) == (False, (0,))


def test_a_check_changes_nothing() -> None:
    arrays = {name: np.array(value) for name, value in ARRAYS.items()}
    before = evaluate(cube().program(), arrays).loss
    checked(cube(), arrays)
    assert evaluate(cube().program(), arrays).loss == before
