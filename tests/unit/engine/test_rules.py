"""Two rules of meaning, in numbers: a gradient of zero stops, and one operand is itself. And who is reported first."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwire_server.engine.explain.nonfinite import Phase
from gradwire_server.engine.graph.graph import Reduction, Ties
from tests.unit.engine.building import Builder, evaluate, refusal_of, reported
from tests.unit.engine.swarms import columns

INF, NAN = np.inf, np.nan

each_reduction = pytest.mark.parametrize("reduction", list(Reduction))
each_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


@each_dtype
class TestAGradientOfZeroStops:
    def test_a_norm_that_a_max_masks(self, dtype: type) -> None:
        builder = Builder()
        x, y = builder.parameter("x"), builder.parameter("y")
        squares = builder.op("add", builder.op("mul", x, x), builder.op("mul", y, y))
        builder.op("max", builder.op("power", squares, exponent=0.5), builder.constant(1e-10))
        result = evaluate(builder.program(), {"x": 0, "y": 0}, dtype)
        assert result.non_finite is None
        assert {name: float(g) for name, g in result.gradients.items()} == {"x": 0, "y": 0}

    def test_the_square_of_a_norm_at_zero(self, dtype: type) -> None:
        builder = Builder()
        x = builder.parameter("x", (3,))
        total = builder.op("sum", builder.op("mul", x, x))
        builder.op("power", builder.op("power", total, exponent=0.5), exponent=2.0)
        result = evaluate(builder.program(), {"x": [0, 0, 0]}, dtype)
        assert (result.non_finite, result.gradients["x"].tolist()) == (None, [0, 0, 0])

    @pytest.mark.parametrize("per_example", [False, True])
    def test_a_quotient_by_zero_that_is_not_taken(self, dtype: type, *, per_example: bool) -> None:
        builder = Builder()
        x = builder.input("x", (2,), per_example=per_example)
        quotient = builder.op("mul", x, builder.op("power", builder.constant([0.0, 1.0]), exponent=-1.0))
        builder.op("take", quotient, builder.constant(np.array(1)))
        row = [3.0, 5.0]
        result = evaluate(builder.program(), {"x": [row, row] if per_example else row}, dtype, wrt=("x",))
        assert result.gradients["x"].tolist() == ([[0, 0.5], [0, 0.5]] if per_example else [0, 1])

    @pytest.mark.parametrize(
        ("op", "attributes", "at"),
        [
            ("log", {}, 0.0),
            ("power", {"exponent": 0.5}, 0.0),
            ("power", {"exponent": -1.0}, 0.0),
            ("exp", {}, 1e4),
            ("log", {}, -1.0),
            ("power", {"exponent": 2.0}, INF),
            ("tanh", {}, NAN),
            ("sigmoid", {}, NAN),
            ("softplus", {}, NAN),
        ],
    )
    @pytest.mark.parametrize("form", ["scalar", "tensor", "packed", "lanes"])
    def test_whatever_the_slope(self, op: str, attributes: dict[str, Any], at: float, form: str, dtype: type) -> None:
        builder = Builder()
        x = builder.input("x", () if form == "scalar" else (2,), per_example=form == "lanes")
        if form == "packed":
            node = builder.op("scalars", x, **columns([(op, [0], *attributes.values())], [2, 1]))
        else:
            node = builder.op(op, x, **attributes)
        weights: Any = 0.0 if form == "scalar" else [0.0, 1.0]
        product = builder.op("mul", node, builder.constant(weights))
        # The product is NaN; what comes back to it is 1 and 0.
        builder.op("sum", product)
        rows: Any = at if form == "scalar" else [at, 1.0]
        result = evaluate(builder.program(), {"x": [rows] if form == "lanes" else rows}, dtype, wrt=("x",))
        assert float(result.gradients["x"].ravel()[0]) == 0
        assert not np.signbit(result.gradients["x"].ravel()[0])

    @pytest.mark.parametrize("bad", [INF, -INF, NAN])
    def test_a_factor_that_is_not_finite(self, bad: float, dtype: type) -> None:
        builder = Builder()
        a, b = builder.parameter("a", (2,)), builder.parameter("b", (2,))
        builder.op("sum", builder.op("mul", builder.op("mul", a, b), builder.constant([0.0, 1.0])))
        gradients = evaluate(builder.program(), {"a": [bad, 2], "b": [bad, 3]}, dtype).gradients
        assert [gradients[name].tolist() for name in "ab"] == [[0, 3], [0, 2]]

    @pytest.mark.parametrize("bad", [INF, -INF, NAN])
    @pytest.mark.parametrize("per_example", [False, True])
    def test_terms_of_a_product_of_matrices(self, bad: float, dtype: type, *, per_example: bool) -> None:
        builder = Builder()
        w, x = builder.parameter("w", (2, 2)), builder.input("x", (2,), per_example=per_example)
        builder.op("sum", builder.op("mul", builder.op("matmul", w, x), builder.constant([0.0, 1.0])))
        arrays = {"w": [[bad, 1], [2, 3]], "x": [[5, 7]] if per_example else [5, 7]}
        gradients = evaluate(builder.program(), arrays, dtype, wrt=("w", "x")).gradients
        assert gradients["x"].ravel().tolist() == [2, 3]
        assert gradients["w"].tolist() == [[0, 0], [5, 7]]

    def test_an_infinite_gradient_times_a_slope_of_zero_is_nan_and_reported(self, dtype: type) -> None:
        builder = Builder()
        square = builder.op("power", builder.parameter("x"), exponent=2.0, name="square")
        builder.op("power", square, exponent=0.5)
        result = evaluate(builder.program(), {"x": 0}, dtype)
        assert np.isnan(result.gradients["x"])
        report = result.non_finite
        assert report is not None
        assert report.phase is Phase.GRADIENT


@each_dtype
class TestLogsumexpOfMinusInfinityAlone:
    @pytest.mark.parametrize("per_example", [False, True])
    def test_it_is_minus_infinity_with_gradient_zero(self, dtype: type, *, per_example: bool) -> None:
        builder = Builder()
        x = builder.input("x", (3,), per_example=per_example)
        total = builder.op("logsumexp", x)
        builder.op("max", total, builder.constant(-5.0))
        row = [-INF, -INF, -INF]
        result = evaluate(builder.program(), {"x": [row] if per_example else row}, dtype, wrt=("x",), outputs=(total,))
        assert result.outputs[total].ravel().tolist() == [-INF]
        assert result.gradients["x"].ravel().tolist() == [0, 0, 0]

    def test_of_rows_only_those_that_are_masked_whole(self, dtype: type) -> None:
        builder = Builder()
        x = builder.parameter("x", (2, 2))
        total = builder.op("logsumexp", x, axes=(1,))
        builder.op("sum", total)
        result = evaluate(builder.program(), {"x": [[-INF, -INF], [-INF, 1.0]]}, dtype, outputs=(total,))
        assert result.outputs[total].tolist() == [-INF, 1.0]
        assert result.gradients["x"].tolist() == [[0, 0], [0, 1]]


@pytest.mark.parametrize("op", ["add", "mul", "max"])
class TestOneOperand:
    @pytest.mark.parametrize("ties", list(Ties))
    @pytest.mark.parametrize("number", [-0.0, 2.5, -3.0])
    @pytest.mark.parametrize("form", ["scalar", "tensor", "packed", "lanes"])
    def test_it_is_itself(self, op: str, number: float, form: str, ties: Ties) -> None:
        builder = Builder()
        x = builder.input("x", () if form == "scalar" else (1,), per_example=form == "lanes")
        node = builder.op("scalars", x, **columns([(op, [0])], [1])) if form == "packed" else builder.op(op, x)
        builder.op("sum", builder.op("mul", node, builder.constant(3.0)))
        rows: Any = number if form == "scalar" else [number]
        result = evaluate(
            builder.program(ties=ties), {"x": [rows] if form == "lanes" else rows}, wrt=("x",), outputs=(node,)
        )
        [value] = result.outputs[node].ravel()
        assert (value, np.signbit(value)) == (number, np.signbit(number))
        assert result.gradients["x"].ravel().tolist() == [3]

    @each_reduction
    def test_a_chain_of_them_and_others(self, op: str, reduction: Reduction) -> None:
        builder = Builder()
        w, x = builder.parameter("w", (2,)), builder.input("x", (2,), per_example=True)
        for _ in range(3):
            w, x = builder.op(op, w), builder.op(op, x)
        product = builder.op(op, builder.op("mul", w, x))
        builder.op(op, builder.op("sum", builder.op(op, builder.op("transpose", product))))
        result = evaluate(builder.program(), {"w": [2, 3], "x": [[5, 7]]}, wrt=("w", "x"), reduction=reduction)
        assert result.loss.ravel().tolist() == [31]
        assert result.gradients["w"].ravel().tolist() == [5, 7]
        assert result.gradients["x"].ravel().tolist() == [2, 3]

    def test_none_is_an_error(self, op: str) -> None:
        builder = Builder()
        builder.parameter("x")
        builder.op(op, name="nothing")
        assert '"nothing"' in refusal_of(builder).message


class TestTheLowestExampleIsReported:
    def log_of(self) -> Builder:
        builder = Builder()
        x, y = builder.input("x", per_example=True), builder.input("y", per_example=True)
        builder.op("add", builder.op("log", x, name="first"), builder.op("log", y, name="second"))
        return builder

    @each_reduction
    def test_it_goes_before_a_lower_node(self, reduction: Reduction) -> None:
        arrays = {"x": [1, 1, 0], "y": [1, 0, 0]}
        report = reported(self.log_of(), arrays, reduction=reduction)
        assert (report.name, report.example, report.value) == ("second", 1, -INF)

    @each_reduction
    def test_in_one_example_it_is_the_lowest_node(self, reduction: Reduction) -> None:
        report = reported(self.log_of(), {"x": [1, 0], "y": [1, 0]}, reduction=reduction)
        assert (report.name, report.example) == ("first", 1)

    @each_reduction
    @pytest.mark.parametrize("example", [0, 1, 31, 32, 4095, 4096, 8191, 99_999])
    def test_wherever_it_is(self, example: int, reduction: Reduction) -> None:
        x, y = np.ones(100_000), np.ones(100_000)
        y[example], x[example + 1 :] = 0, 0
        report = reported(self.log_of(), {"x": x, "y": y}, reduction=reduction)
        assert (report.name, report.example) == ("second", example)

    def test_a_sum_over_examples_that_overflows_comes_after_all_of_them(self) -> None:
        builder = Builder()
        product = builder.op("mul", builder.parameter("w"), builder.input("x", per_example=True))
        builder.op("add", product, builder.op("log", builder.input("y", per_example=True), name="log"))
        arrays = {"w": 1, "x": [1e308, 1e308, 1], "y": [1, 1, 1]}
        assert reported(builder, arrays, reduction=Reduction.SUM).phase is Phase.REDUCTION
        report = reported(builder, {**arrays, "y": [1, 1, 0]}, reduction=Reduction.SUM)
        assert (report.phase, report.name, report.example) == (Phase.VALUE, "log", 2)
