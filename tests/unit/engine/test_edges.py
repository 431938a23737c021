"""Values and derivatives at the edges of ops, with the numbers that the semantics imply."""

from __future__ import annotations

import numpy as np
import pytest

from gradwire_server.engine.explain.nonfinite import Phase
from gradwire_server.engine.graph.graph import Reduction, Ties
from tests.unit.engine.building import (
    Builder,
    evaluate,
    refusal_of,
    squares,
    unary,
)

INF, NAN = np.inf, np.nan


class TestMaximum:
    @pytest.mark.parametrize(("ties", "slope"), [(Ties.ZERO, 0.0), (Ties.SPLIT, 1.0)])
    def test_a_node_listed_twice_ties_with_itself(self, ties: Ties, slope: float) -> None:
        builder = Builder()
        x = builder.parameter("x")
        builder.op("max", x, x)
        assert evaluate(builder.program(ties=ties), {"x": 3}).gradients["x"] == slope

    @pytest.mark.parametrize("pair", [(0.0, -0.0), (INF, INF), (-INF, -INF), (2.0, 2.0)])
    def test_what_compares_equal_ties(self, pair: tuple[float, float]) -> None:
        builder = Builder()
        builder.op("max", builder.parameter("a"), builder.parameter("b"))
        arrays = {"a": pair[0], "b": pair[1]}
        assert set(map(float, evaluate(builder.program(), arrays).gradients.values())) == {0.0}
        split = evaluate(builder.program(ties=Ties.SPLIT), arrays)
        assert set(map(float, split.gradients.values())) == {0.5}

    @pytest.mark.parametrize("operands", [(NAN, 1.0), (1.0, NAN), (NAN, NAN)])
    def test_nan_passes_on_and_gets_no_gradient(self, operands: tuple[float, float]) -> None:
        builder = Builder()
        builder.op("max", builder.parameter("a"), builder.parameter("b"))
        for ties in Ties:
            result = evaluate(builder.program(ties=ties), dict(zip("ab", operands, strict=True)))
            assert np.isnan(result.loss)
            assert (result.gradients["a"], result.gradients["b"]) == (0, 0)
        reduced = unary("reduce_max", list(operands))
        assert np.isnan(reduced.loss)
        assert reduced.gradients["x"].tolist() == [0, 0]

    def test_losers_get_exactly_zero_also_of_an_infinite_gradient(self) -> None:
        builder = Builder()
        largest = builder.op("max", builder.parameter("a"), builder.parameter("b"), name="largest")
        builder.op("mul", largest, builder.constant(INF))
        gradients = evaluate(builder.program(), {"a": 1, "b": 2}).gradients
        assert (gradients["a"], gradients["b"]) == (0, INF)

    def test_three_operands_are_one_node_and_nested_calls_two(self) -> None:
        together, nested = Builder(), Builder()
        for builder in (together, nested):
            for name in "abc":
                builder.parameter(name)
        together.op("max", 0, 1, 2)
        nested.op("max", nested.op("max", 0, 1), 2)
        arrays = dict.fromkeys("abc", 1.0)
        shares = [
            [float(evaluate(b.program(ties=Ties.SPLIT), arrays).gradients[n]) for n in "abc"]
            for b in (together, nested)
        ]
        assert shares == [[1 / 3, 1 / 3, 1 / 3], [0.25, 0.25, 0.5]]

    def test_over_an_empty_axis_there_is_none(self) -> None:
        builder = Builder()
        builder.op("reduce_max", builder.parameter("x", (0,)), name="largest")
        assert "empty" in refusal_of(builder).message


class TestSum:
    def test_over_an_empty_axis_it_is_zero(self) -> None:
        result = unary("sum", np.zeros((2, 0)), axes=(1,), keepdims=False)
        assert (result.loss, result.outputs[1].tolist()) == (0, [0, 0])

    def test_an_empty_list_of_axes_means_all(self) -> None:
        assert unary("sum", np.ones((2, 3))).outputs[1].shape == ()

    def test_add_and_mul_go_from_left_to_right(self) -> None:
        for op, values in (("add", (1e16, 1.0, -1e16)), ("mul", (1e200, 1e200, 1e-300))):
            builder = Builder()
            builder.op(op, *(builder.parameter(name) for name in "abc"))
            result = evaluate(builder.program(), dict(zip("abc", values, strict=True)))
            assert result.loss == (0.0 if op == "add" else INF)

    def test_four_factors_are_not_multiplied_in_pairs(self) -> None:
        builder = Builder()
        builder.op("mul", *(builder.parameter(name) for name in "abcd"))
        # (1 1e-200) (1e-200 1e300) would be 1e-100.
        assert evaluate(builder.program(), {"a": 1, "b": 1e-200, "c": 1e-200, "d": 1e300}).loss == 0

    def test_subnormals_are_kept(self) -> None:
        tiny = 5e-324
        builder = Builder()
        builder.op("mul", builder.parameter("a"), builder.constant(1))
        assert evaluate(builder.program(), {"a": tiny}).loss == tiny
        assert unary("sum", [tiny, tiny]).loss == 2 * tiny

    def test_many_float32_examples_do_not_lose_precision(self) -> None:
        result = evaluate(squares().program(), {"w": 1, "x": np.full(3_000_000, 0.1)}, np.float32)
        assert result.loss.dtype == np.float32
        np.testing.assert_allclose(result.loss, np.float32(0.1) ** 2, rtol=3e-7)
        np.testing.assert_allclose(result.gradients["w"], 2 * np.float32(0.1) ** 2, rtol=3e-7)

    def test_a_long_float32_sum_along_a_first_axis_does_not_lose_precision(self) -> None:
        builder = Builder()
        total = builder.op("sum", builder.parameter("x", (1_000_000, 3)), axes=(0,))
        builder.op("sum", total)
        result = evaluate(builder.program(), {"x": np.full((1_000_000, 3), 0.1)}, np.float32, outputs=(total,))
        np.testing.assert_allclose(result.outputs[total], 100_000, rtol=1e-7)

    @pytest.mark.parametrize("operand", [(3,), (1, 3), (1, 1), ()])
    def test_the_gradient_of_a_broadcast_float32_operand_does_not_lose_precision(
        self, operand: tuple[int, ...]
    ) -> None:
        builder = Builder()
        product = builder.op("mul", builder.parameter("b", operand), builder.input("x", (1_000_000, 3)))
        builder.op("sum", product)
        arrays = {"b": np.ones(operand), "x": np.full((1_000_000, 3), 0.1)}
        gradient = evaluate(builder.program(), arrays, np.float32).gradients["b"]
        expected = 100_000 if 3 in operand else 300_000
        assert (gradient.shape, gradient.dtype) == (operand, np.float32)
        np.testing.assert_allclose(gradient, expected, rtol=1e-7)

    @pytest.mark.parametrize("per_example", [False, True])
    @pytest.mark.parametrize("reduction", list(Reduction))
    def test_the_gradient_of_a_repeated_float32_row_does_not_lose_precision(
        self, reduction: Reduction, per_example: bool
    ) -> None:
        builder = Builder()
        indices = builder.input("i", (100_000,), per_example=per_example, integer=True)
        taken = builder.op("take", builder.parameter("rows", (2,)), indices)
        builder.op("sum", builder.op("mul", taken, builder.constant(0.1)))
        rows = np.zeros((2, 100_000) if per_example else 100_000, np.int64)
        arrays = {"rows": [1, 1], "i": rows}
        gradient = evaluate(builder.program(), arrays, np.float32, reduction=reduction).gradients["rows"]
        expected = 20_000 if per_example and reduction is Reduction.SUM else 10_000
        assert gradient.dtype == np.float32
        np.testing.assert_allclose(gradient[..., 0], expected, rtol=1e-7)

    def test_the_gradient_of_a_row_repeated_by_many_examples_does_not_lose_precision(self) -> None:
        builder = Builder()
        taken = builder.op("take", builder.parameter("rows", (2,)), builder.input("i", per_example=True, integer=True))
        builder.op("mul", taken, builder.constant(0.1))
        arrays = {"rows": [1, 1], "i": np.zeros(4096, np.int64)}
        gradient = evaluate(builder.program(), arrays, np.float32, reduction=Reduction.SUM).gradients["rows"]
        np.testing.assert_allclose(gradient, [409.6, 0], rtol=1e-7)


class TestMul:
    def test_a_zero_operand_has_its_right_gradient(self) -> None:
        builder = Builder()
        builder.op("mul", *(builder.parameter(name) for name in "abcd"))
        gradients = evaluate(builder.program(), {"a": 2, "b": 0, "c": 3, "d": 5}).gradients
        assert {name: float(gradients[name]) for name in "abcd"} == {"a": 0, "b": 30, "c": 0, "d": 0}

    def test_each_of_very_many_gets_the_product_of_the_others(self) -> None:
        values = [-1.0 if i % 3 else 1.0 for i in range(200)]
        values[150] = 0.0
        builder = Builder()
        builder.op("mul", *(builder.parameter(f"p{i}") for i in range(200)))
        gradients = evaluate(builder.program(), {f"p{i}": value for i, value in enumerate(values)}).gradients
        assert [float(gradients[f"p{i}"]) for i in range(200)] == [-1.0 if i == 150 else 0.0 for i in range(200)]
        values[150] = -1.0
        gradients = evaluate(builder.program(), {f"p{i}": value for i, value in enumerate(values)}).gradients
        assert [float(gradients[f"p{i}"]) for i in range(200)] == [np.prod(values) * value for value in values]

    def test_a_node_listed_twice_gets_both_shares(self) -> None:
        builder = Builder()
        x = builder.parameter("x")
        builder.op("mul", x, x, x)
        assert evaluate(builder.program(), {"x": 2}).gradients["x"] == 12


class TestPower:
    @pytest.mark.parametrize(
        ("x", "exponent", "value", "slope"),
        [
            (0, 0, 1, 0), (3, 0, 1, 0), (NAN, 0, 1, 0), (INF, 0, 1, 0),
            (0, 1, 0, 1), (-2, 1, -2, 1), (INF, 1, INF, 1),
            (0, 2, 0, 0), (-3, 2, 9, -6), (-2, 3, -8, 12), (2, -1, 0.5, -0.25),
            (4, 0.5, 2, 0.25), (0, 0.5, 0, INF), (0, -1, INF, -INF),
        ],
    )  # fmt: skip
    def test_value_and_derivative(self, x: float, exponent: float, value: float, slope: float) -> None:
        result = unary("power", x, exponent=float(exponent))
        assert (result.outputs[1], result.gradients["x"]) == (value, slope)

    @pytest.mark.parametrize("adjoint", [INF, NAN])
    def test_what_does_not_depend_on_its_base_gives_it_exact_zeros(self, adjoint: float) -> None:
        builder = Builder()
        builder.op("mul", builder.op("power", builder.parameter("x"), exponent=0.0), builder.constant(adjoint))
        assert evaluate(builder.program(), {"x": 2}).gradients["x"] == 0

    def test_a_fractional_power_of_a_negative_base_is_nan_and_reported(self) -> None:
        result = unary("power", -1.0, exponent=0.5)
        assert np.isnan(result.loss)
        assert result.non_finite is not None
        assert (result.non_finite.phase, result.non_finite.node) == (Phase.VALUE, 1)


@pytest.mark.parametrize("per_example", [False, True])
class TestRange:
    """Gradients that are finite are so whatever the order in which the kernel multiplies and adds."""

    def test_a_product_of_three(self, per_example: bool) -> None:
        builder = Builder()
        ids = [builder.input(name, per_example=per_example) for name in "abc"]
        builder.op("mul", builder.op("mul", *ids), builder.constant(1e100))
        for small in (1e-200, 0.0):
            arrays = {name: [x] if per_example else x for name, x in (("a", small), ("b", small), ("c", 1e300))}
            result = evaluate(builder.program(), arrays, wrt=("a", "b", "c"))
            assert result.non_finite is None
            gradients = [float(np.squeeze(result.gradients[name])) for name in "abc"]
            np.testing.assert_allclose(gradients, [small * 1e300 * 1e100, small * 1e300 * 1e100, 0], rtol=1e-12)

    def test_a_sum_whose_parts_cancel(self, per_example: bool) -> None:
        builder = Builder()
        x = builder.input("x", per_example=per_example)
        builder.op("add", *[builder.op("mul", x, builder.constant(c)) for c in (1.7e308, 1.7e308, -1.7e308)])
        result = evaluate(builder.program(), {"x": [0.0] if per_example else 0.0}, wrt=("x",))
        assert (result.non_finite, float(np.squeeze(result.gradients["x"]))) == (None, 1.7e308)


class TestDtype:
    def test_constants_are_cast_and_gradients_have_the_dtype_of_the_request(self) -> None:
        builder = Builder()
        builder.op("mul", builder.parameter("w"), builder.constant(0.1))
        for dtype in (np.float32, np.float64):
            result = evaluate(builder.program(), {"w": 3}, dtype)
            assert (result.loss.dtype, result.gradients["w"].dtype) == (dtype, dtype)
            assert result.loss == dtype(0.1) * dtype(3)

    def test_float32_is_computed_in_float32(self) -> None:
        builder = Builder()
        w = builder.parameter("w")
        builder.op("add", builder.op("mul", w, builder.constant(1e30), builder.constant(1e30)), w)
        result = evaluate(builder.program(), {"w": 1}, np.float32)
        assert result.loss == INF
        assert result.non_finite is not None


def test_branches_add_up() -> None:
    builder = Builder()
    w = builder.parameter("w")
    s = builder.op("sigmoid", w)
    builder.op("add", builder.op("mul", s, s), s, w)
    # d/dw (s^2 + s + w) = (2 s + 1) s (1 - s) + 1 at s = 1/2.
    assert evaluate(builder.program(), {"w": 0}).gradients["w"] == 1.5
