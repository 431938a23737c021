"""Traces and checks of gradients as requests ask for them; what they show is tested beside ``explain``."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwire_server.engine.explain.check import SourceCheck, settings_of
from gradwire_server.engine.explain.nonfinite import Phase
from gradwire_server.engine.explain.trace import Trace
from gradwire_server.engine.graph.graph import Reduction, Ties
from gradwire_server.engine.run import checking
from gradwire_server.engine.run.checking import bind_check, run_check
from gradwire_server.engine.run.evaluation import Evaluation, run
from gradwire_server.engine.run.program import Program
from gradwire_server.engine.run.query import Query
from gradwire_server.engine.run.tracing import bind_trace, run_trace
from gradwire_server.errors import Refusal
from gradwire_server.limits import Limits
from tests.unit.engine.building import LIMITS, Builder, evaluate, nothing

FLOAT64 = np.dtype(np.float64)


def traced(builder: Builder, arrays: dict[str, Any]) -> Trace:
    given = {name: np.asarray(value, order="C") for name, value in arrays.items()}
    return run_trace(bind_trace(builder.program(), given, FLOAT64, LIMITS), nothing)


def test_per_example_inputs_are_traced_without_an_axis_of_examples() -> None:
    builder = Builder()
    builder.op("mul", builder.input("x", per_example=True), builder.parameter("w"))
    assert traced(builder, {"x": 3.0, "w": 2.0}).nodes[2].value == 6
    with pytest.raises(Refusal, match=r'"x".*\(1,\).*\(\), with no axis of examples'):
        traced(builder, {"x": [3.0], "w": 2.0})


def test_a_trace_reports_what_is_not_finite() -> None:
    builder = Builder()
    builder.op("log", builder.parameter("w"), name="logarithm")
    report = traced(builder, {"w": 0.0}).non_finite
    assert report is not None
    assert (report.phase, report.name) == (Phase.VALUE, "logarithm")


def test_a_trace_says_what_is_wrong_with_its_indices() -> None:
    builder = Builder()
    rows, indices = builder.parameter("rows", (2,)), builder.input("i", per_example=True, integer=True)
    builder.op("take", rows, indices, name="picked")
    with pytest.raises(Refusal, match=r'"picked".*index 2.*2 rows'):
        traced(builder, {"rows": [1.0, 2.0], "i": np.array(2)})


def test_a_trace_that_would_take_too_much_memory_is_refused() -> None:
    builder = Builder()
    builder.op("sum", builder.op("exp", builder.parameter("w", (1000,))))
    with pytest.raises(Refusal, match="max_memory_bytes"):
        bind_trace(builder.program(), {"w": np.ones(1000)}, FLOAT64, Limits(max_memory_bytes=10_000))


def test_a_trace_has_the_gradients_of_a_request() -> None:
    builder = Builder()
    w, x = builder.parameter("w", (3,)), builder.input("x", (3,), per_example=True)
    builder.op("sum", builder.op("power", builder.op("tanh", builder.op("mul", w, x)), exponent=2.0))
    random = np.random.default_rng(0)
    arrays = {"w": random.normal(size=3), "x": random.normal(size=(1, 3))}
    nodes = traced(builder, {**arrays, "x": arrays["x"][0]}).nodes
    gradients = evaluate(builder.program(), arrays, wrt=("w", "x"), reduction=Reduction.NONE).gradients
    for node, name in enumerate("wx"):
        gradient = nodes[node].gradient
        assert gradient is not None
        np.testing.assert_allclose(gradient, gradients[name][0], rtol=1e-14)


def checked(
    builder: Builder | Program, arrays: dict[str, Any], dtype: type = np.float64, **options: Any
) -> tuple[SourceCheck, ...]:
    program = builder.program() if isinstance(builder, Builder) else builder
    given: dict[str, Any] = {name: np.asarray(value, dtype) for name, value in arrays.items()}
    asked = {key: options.pop(key) for key in ("wrt", "reduction") if key in options}
    query = Query(arrays=given, dtype=np.dtype(dtype), **asked)
    settings = settings_of(query.dtype, query.reduction, **options)
    return run_check(bind_check(program, query, settings, LIMITS), nothing)


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
    def wrong(*arguments: Any) -> Evaluation:
        result = run(*arguments)
        return result._replace(gradients={name: g * [1.0, 1.001, 1.0] for name, g in result.gradients.items()})

    monkeypatch.setattr(checking, "run", wrong)
    [result] = checked(cube(), ARRAYS)
    assert (result.passed, result.failed, result.worst_position) == (False, 1, (1,))
    np.testing.assert_allclose(result.relative_error, 1e-3, rtol=0.01)
    np.testing.assert_allclose(result.numeric, np.mean([3 * (-2.0 * x) ** 2 * x for x in (2.0, 5.0)]), rtol=1e-8)


@pytest.mark.parametrize("ties", list(Ties))
def test_at_a_kink_every_subgradient_agrees(ties: Ties) -> None:
    builder = Builder()
    builder.op("max", builder.parameter("w"), builder.constant(0.0))
    [result] = checked(builder.program(ties=ties), {"w": 0.0})
    assert result.passed


def test_a_checkpoint_is_passed_before_each_probe_of_a_loss_that_is_no_operation() -> None:
    builder = Builder()
    w = builder.parameter("w")
    builder.parameter("others", (50,))
    passed: list[int] = []
    query = Query(arrays={"w": np.array(1.0), "others": np.zeros(50)}, dtype=FLOAT64)
    settings = settings_of(FLOAT64, Reduction.MEAN)
    run_check(bind_check(builder.program(w), query, settings, LIMITS), lambda: passed.append(1))
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
        ({"step": float("inf")}, "step is inf; it must be finite and above 0"),
        ({"step": 1e-30}, r'step is 1e-30, .* element \(0,\) of parameter "w", 1.0, is lost in float64; .* larger'),
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
    assert {name: array.tolist() for name, array in arrays.items()} == ARRAYS
    assert evaluate(cube().program(), arrays).loss == before
