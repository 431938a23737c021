"""The rules of the semantics, one by one, with the numbers that they imply."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwire_server.engine import Evaluation, NonFinite, Phase, Reduction, Ties, trace
from gradwire_server.engine.nonfinite import first
from gradwire_server.errors import Reason, Refusal
from tests.unit.engine.graphs import LIMITS, Builder, evaluate, nothing, refusal_of

INF, NAN = np.inf, np.nan

MANY = 4096 + 4
"""Examples that do not fit into one block, however small they are."""


def refused(builder: Builder, arrays: dict[str, Any], **query: Any) -> Refusal:
    with pytest.raises(Refusal) as raised:
        evaluate(builder.program(), arrays, **query)
    return raised.value


def unary(op: str, x: Any, **attributes: Any) -> Evaluation:
    """The sum of an op of x."""
    builder = Builder()
    result = builder.op(op, builder.parameter("x", np.shape(x)), **attributes)
    builder.op("sum", result)
    return evaluate(builder.program(), {"x": x}, outputs=(result,))


def reported(builder: Builder, arrays: dict[str, Any], **query: Any) -> NonFinite:
    """The report on a graph."""
    report = evaluate(builder.program(), arrays, **query).non_finite
    assert report is not None
    return report


def shown(report: NonFinite) -> dict[str, float]:
    """Its operands, by name."""
    return {operand.name: operand.value for operand in report.operands}


def squares(**source: Any) -> Builder:
    """(w x)^2 of a per-example x."""
    builder = Builder()
    product = builder.op("mul", builder.parameter("w"), builder.input("x", per_example=True), name="product")
    builder.op("mul", product, product)
    return builder


class TestExamples:
    def test_broadcasting_is_that_of_one_example(self) -> None:
        builder = Builder()
        x = builder.input("x", (3,), per_example=True)
        y = builder.input("y", per_example=True)
        z = builder.op("mul", x, y)
        builder.op("sum", z)
        # [2, 3] and [2] would not broadcast.
        rows = {"x": [[1, 2, 3], [4, 5, 6]], "y": [10, 100]}
        result = evaluate(builder.program(), rows, outputs=(z,), reduction=Reduction.NONE)
        assert result.outputs[z].tolist() == [[10, 20, 30], [400, 500, 600]]
        assert result.loss.tolist() == [60, 1500]

    @pytest.mark.parametrize("reduction", list(Reduction))
    def test_an_output_that_depends_on_examples_is_never_reduced(self, reduction: Reduction) -> None:
        result = evaluate(squares().program(), {"w": 2, "x": [1, 2]}, outputs=(0, 2), reduction=reduction)
        assert result.outputs[2].tolist() == [2, 4]
        assert result.outputs[0].tolist() == 2

    def test_a_gradient_in_a_per_example_input_is_of_the_reduced_loss(self) -> None:
        program = squares().program()
        slopes = {}
        for reduction in Reduction:
            result = evaluate(program, {"w": 3, "x": [1, 2]}, wrt=("x",), reduction=reduction)
            slopes[reduction] = result.gradients["x"].tolist()
        assert slopes == {Reduction.MEAN: [9, 18], Reduction.SUM: [18, 36], Reduction.NONE: [18, 36]}

    def test_under_none_every_gradient_has_the_axis_of_examples(self) -> None:
        builder = Builder()
        w = builder.parameter("w", (2,))
        unused = builder.parameter("unused", (3,))
        shared = builder.input("shared")
        x = builder.input("x", per_example=True)
        builder.op("mul", builder.op("sum", w), shared, x)
        names = ("w", "unused", "shared", "x")
        result = evaluate(
            builder.program(),
            {"w": [1, 2], "unused": [0, 0, 0], "shared": 2, "x": [1, 10]},
            wrt=names,
            reduction=Reduction.NONE,
        )
        assert {name: result.gradients[name].tolist() for name in names} == {
            "w": [[2, 2], [20, 20]],
            "unused": [[0, 0, 0], [0, 0, 0]],
            "shared": [3, 30],
            "x": [6, 6],
        }
        assert unused == 1

    def test_no_examples_have_no_mean(self) -> None:
        refusal = refused(squares(), {"w": 2, "x": []})
        assert "at least one" in refusal.message
        assert "mean" in refusal.message

    def test_no_examples_sum_to_zero_and_give_empty_arrays(self) -> None:
        program = squares().program()
        total = evaluate(program, {"w": 2, "x": []}, reduction=Reduction.SUM, wrt=("w", "x"), outputs=(2,))
        assert (total.loss, total.gradients["w"]) == (0, 0)
        assert (total.gradients["x"].shape, total.outputs[2].shape) == ((0,), (0,))
        none = evaluate(program, {"w": 2, "x": []}, reduction=Reduction.NONE)
        assert (none.loss.shape, none.gradients["w"].shape) == ((0,), (0,))

    def test_inputs_that_disagree_on_the_number_of_examples_are_both_named(self) -> None:
        builder = squares()
        builder.op("mul", 3, builder.input("z", per_example=True))
        # One example does not broadcast.
        refusal = refused(builder, {"w": 1, "x": [1, 2], "z": [1]})
        assert [word for word in ('"x"', '"z"', "2", "1") if word not in refusal.message] == []

    @pytest.mark.parametrize(("reduction", "loss", "slope"), [(Reduction.SUM, 33, 20), (Reduction.MEAN, 16.5, 10)])
    def test_each_example_counts_with_its_whole_loss(self, reduction: Reduction, loss: float, slope: float) -> None:
        builder = Builder()
        w = builder.parameter("w")
        builder.op("add", builder.input("x", per_example=True), builder.op("mul", builder.constant(10), w))
        result = evaluate(builder.program(), {"x": [1, 2], "w": 1.5}, reduction=reduction)
        assert (result.loss, result.gradients["w"]) == (loss, slope)

    @pytest.mark.parametrize("reduction", list(Reduction))
    def test_without_per_example_inputs_every_reduction_gives_the_plain_value(self, reduction: Reduction) -> None:
        builder = Builder()
        w = builder.parameter("w", (2,))
        builder.op("sum", builder.op("mul", w, w))
        result = evaluate(builder.program(), {"w": [1, 2]}, reduction=reduction)
        assert (result.loss.shape, result.loss, result.gradients["w"].tolist()) == ((), 5, [2, 4])

    def test_a_per_example_input_that_the_loss_ignores_still_counts_the_examples(self) -> None:
        builder = Builder()
        builder.input("x", per_example=True)
        builder.op("mul", builder.parameter("w"), builder.constant(3))
        result = evaluate(builder.program(), {"x": [1, 2, 3, 4], "w": 2}, reduction=Reduction.SUM)
        assert (result.loss, result.gradients["w"]) == (24, 12)

    def test_blocks_have_at_most_4096_examples(self) -> None:
        assert evaluate(squares().program(), {"w": 1, "x": np.ones(2 * 4096 + 1)}).blocks == 3


class TestLoss:
    def test_it_may_be_a_parameter(self) -> None:
        builder = Builder()
        builder.parameter("w")
        result = evaluate(builder.program(), {"w": 5})
        assert (result.loss, result.gradients["w"]) == (5, 1)

    def test_it_may_be_an_input(self) -> None:
        builder = Builder()
        builder.input("x", per_example=True)
        result = evaluate(builder.program(), {"x": [1, 2]}, wrt=("x",))
        assert (result.loss, result.gradients["x"].tolist()) == (1.5, [0.5, 0.5])

    def test_it_may_depend_on_nothing(self) -> None:
        builder = Builder()
        builder.parameter("w", (2,))
        builder.constant(7)
        result = evaluate(builder.program(), {"w": [1, 2]})
        assert (result.loss, result.gradients["w"].tolist()) == (7, [0, 0])

    def test_what_it_does_not_reach_has_exact_zeros_of_its_shape(self) -> None:
        builder = Builder()
        builder.parameter("unused", (2, 0, 3))
        builder.op("log", builder.parameter("dead", (2,)))
        builder.parameter("w")
        result = evaluate(builder.program(), {"unused": np.ones((2, 0, 3)), "dead": [0, -1], "w": 1})
        assert result.gradients["unused"].shape == (2, 0, 3)
        assert result.gradients["dead"].tolist() == [0, 0]

    def test_one_element_is_no_scalar(self) -> None:
        builder = Builder()
        builder.parameter("w", (1,))
        refusal = refusal_of(builder)
        assert refusal.findings[0].path == "loss"
        assert [word for word in ('"w"', "(1,)", "()") if word not in refusal.message] == []


class TestEmpty:
    def test_gradients_go_around_tensors_that_could_not_be_made(self) -> None:
        # Before they are summed over the stacks, the gradients have 2^87 entries beside an empty axis.
        many = 2**29
        shapes = {"a": (0, many, 1, 1, many), "b": (0, 1, many, many, 1)}
        builder = Builder()
        product = builder.op("matmul", *(builder.parameter(name, shape) for name, shape in shapes.items()))
        w = builder.parameter("w")
        builder.op("add", builder.op("sum", product), builder.op("mul", w, w))
        result = evaluate(builder.program(), {name: np.zeros(shape) for name, shape in shapes.items()} | {"w": 3})
        assert (result.loss, result.gradients["w"]) == (9, 6)
        assert {name: result.gradients[name].shape for name in shapes} == shapes

    def test_indices_are_checked_also_where_rows_are_empty(self) -> None:
        builder = Builder()
        builder.op("take", builder.parameter("rows", (3, 0)), builder.input("i", (2,), integer=True), name="picked")
        builder.op("sum", 2)
        arrays = {"rows": np.zeros((3, 0)), "i": np.array([0, 3])}
        assert refused(builder, arrays).reason is Reason.INDEX_OUT_OF_RANGE


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


class TestNonFinite:
    def test_the_logarithm_of_zero_is_reported(self) -> None:
        result = unary("log", [1.0, 0.0])
        assert result.loss == -INF
        report = result.non_finite
        assert report is not None
        assert (report.phase, report.node, report.position, report.value) == (Phase.VALUE, 1, (1,), -INF)
        assert [(operand.name, operand.value) for operand in report.operands] == [("x", 0.0)]

    def test_zero_times_an_infinite_slope_is_nan_and_reported_with_its_node(self) -> None:
        builder = Builder()
        root = builder.op("power", builder.parameter("x"), exponent=0.5, name="root")
        builder.op("mul", root, builder.constant(0.0))
        result = evaluate(builder.program(), {"x": 0})
        assert np.isnan(result.gradients["x"])
        report = result.non_finite
        assert report is not None
        assert (report.phase, report.name) == (Phase.GRADIENT, "root")

    @pytest.mark.parametrize("bad", [NAN, INF, -INF])
    def test_what_came_in_is_reported_on_its_source(self, bad: float) -> None:
        result = evaluate(squares().program(), {"w": 1, "x": [1, bad, bad]})
        report = result.non_finite
        assert report is not None
        assert (report.phase, report.name, report.example) == (Phase.VALUE, "x", 1)

    def test_the_lowest_node_goes_before_the_lowest_example(self) -> None:
        builder = Builder()
        x, y = builder.input("x", per_example=True), builder.input("y", per_example=True)
        first, second = builder.op("log", x, name="first"), builder.op("log", y, name="second")
        builder.op("add", first, second)
        report = evaluate(builder.program(), {"x": [1, 1, 0, 0], "y": [0, 1, 1, 1]}).non_finite
        assert report is not None
        assert (report.name, report.example) == ("first", 2)

    def test_a_finite_loss_does_not_hide_an_infinite_intermediate(self) -> None:
        builder = Builder()
        builder.op("sigmoid", builder.op("exp", builder.parameter("x"), name="huge"))
        result = evaluate(builder.program(), {"x": 1000})
        assert result.loss == 1
        assert result.non_finite is not None
        assert result.non_finite.name == "huge"

    def test_a_sum_over_examples_that_overflows_is_of_the_reduction(self) -> None:
        builder = Builder()
        builder.op("mul", builder.parameter("w"), builder.input("x", per_example=True))
        result = evaluate(builder.program(), {"w": 1, "x": [1e308] * 2}, reduction=Reduction.SUM)
        assert result.loss == INF
        report = result.non_finite
        assert report is not None
        assert (report.phase, report.node, report.example) == (Phase.REDUCTION, 2, None)
        # It was made from all examples.
        assert report.operands == ()

    def test_nodes_that_nobody_needs_report_nothing(self) -> None:
        builder = Builder()
        w = builder.parameter("w")
        dead = builder.op("log", builder.op("mul", w, builder.constant(0.0)), name="dead")
        loss = builder.op("mul", w, w)
        program = builder.program(loss)
        assert evaluate(program, {"w": 1}).non_finite is None
        report = evaluate(program, {"w": 1}, outputs=(dead,)).non_finite
        assert report is not None
        assert report.name == "dead"

    def test_it_refuses_the_request_that_asks_for_that(self) -> None:
        builder = Builder()
        builder.op("log", builder.parameter("x"), name="logarithm")
        refusal = refused(builder, {"x": 0}, reject_non_finite=True)
        assert refusal.reason is Reason.NON_FINITE
        assert [word for word in ('"logarithm"', "-inf", "x = 0") if word not in refusal.message] == []
        assert evaluate(builder.program(), {"x": 1}, reject_non_finite=True).loss == 0


def roots(**exponents: float) -> Builder:
    """The sum, times 0, of a power of each: x is per example, w a parameter; later ones have higher nodes."""
    builder = Builder()
    sources = {"w": builder.parameter("w"), "x": builder.input("x", per_example=True)}
    terms = []
    for name, exponent in exponents.items():
        root = builder.op("power", sources[name[0]], exponent=exponent, name=name)
        terms.append(builder.op("mul", root, builder.constant(0.0)))
    builder.op("add", *terms, builder.constant(0.0))
    return builder


class TestFirstNonFinite:
    """Which of several places is reported: one and the same, whatever the order of execution."""

    @pytest.mark.parametrize("reduction", list(Reduction))
    @pytest.mark.parametrize(
        ("names", "name", "example"), [(("x", "w"), "w", None), (("w", "x"), "x", 1), (("x", "x_again"), "x_again", 1)]
    )
    def test_of_gradients_it_is_that_of_the_highest_node(
        self, names: tuple[str, ...], name: str, example: int | None, reduction: Reduction
    ) -> None:
        builder = roots(**{f"{name}_root": 0.5 for name in names})
        arrays = {"w": 0, "x": [1, 0, 0]}
        report = reported(builder, arrays, wrt=("w", "x"), reduction=reduction)
        assert (report.phase, report.name, report.example) == (Phase.GRADIENT, f"{name}_root", example)
        alone = {name: np.zeros(()) for name in "wx"}
        traced = trace(builder.program(), alone, np.dtype(np.float64), LIMITS, nothing).non_finite
        assert traced is not None
        assert (traced.phase, traced.name, traced.example) == (Phase.GRADIENT, f"{name}_root", None)
        assert (traced.position, shown(traced)) == (report.position, shown(report))
        np.testing.assert_equal(traced.value, report.value)

    @pytest.mark.parametrize("reduction", list(Reduction))
    def test_a_step_of_a_later_block_goes_before_a_lower_one_of_an_earlier(self, reduction: Reduction) -> None:
        x = np.ones((MANY, 2))
        x[[1, 2], 0] = x[[-3, -2], 1] = 0
        builder = Builder()
        lower, higher = (
            builder.op("power", builder.op("take", source, builder.constant(np.array(i))), exponent=0.5, name=name)
            for source in [builder.input("x", (2,), per_example=True)]
            for i, name in enumerate(("lower", "higher"))
        )
        builder.op("mul", builder.op("add", lower, higher), builder.constant(0.0))
        report = reported(builder, {"x": x}, wrt=("x",), reduction=reduction)
        assert (report.name, report.example) == ("higher", MANY - 3)

    def test_a_step_of_a_later_part_of_a_block_goes_before_a_lower_one_of_an_earlier(self) -> None:
        # A gradient for each example is so large that only a few are made at once.
        builder = Builder()
        w = builder.op("sum", builder.parameter("w", (1 << 16,)))
        low = builder.op("power", builder.input("low", per_example=True), exponent=0.5, name="lower")
        high = builder.op("power", builder.input("high", per_example=True), exponent=0.5, name="higher")
        builder.op("mul", builder.op("add", w, low, high), builder.constant(0.0))
        low_rows, high_rows = np.ones(100), np.ones(100)
        low_rows[[0, 99]] = high_rows[[50, 98]] = 0
        arrays = {"w": np.ones(1 << 16), "low": low_rows, "high": high_rows}
        report = reported(builder, arrays, wrt=("w", "low", "high"))
        assert (report.name, report.example) == ("higher", 50)

    @pytest.mark.parametrize("reduction", list(Reduction))
    def test_of_examples_it_is_the_lowest_also_beyond_the_first_block(self, reduction: Reduction) -> None:
        x = np.ones(2 * MANY)
        x[[4098, 4099, -1]] = 0
        gradient = reported(roots(x_root=0.5), {"w": 1, "x": x}, wrt=("x",), reduction=reduction)
        assert (gradient.phase, gradient.example) == (Phase.GRADIENT, 4098)
        value = reported(roots(x_inverse=-1.0), {"w": 1, "x": x}, reduction=reduction)
        assert (value.phase, value.name, value.example) == (Phase.VALUE, "x_inverse", 4098)

    def test_a_gradient_that_overflows_only_for_the_sum_is_of_the_step_that_all_examples_share(self) -> None:
        builder = Builder()
        w = builder.parameter("w")
        scaled = builder.op("mul", w, builder.constant(1e200), name="scaled")
        plain = builder.op("mul", w, builder.constant(1.0), name="plain")
        builder.op("mul", builder.op("add", scaled, plain), builder.input("x", per_example=True))
        arrays = {"w": 0, "x": [1e108, 1e108]}
        report = reported(builder, arrays, reduction=Reduction.SUM)
        assert (report.phase, report.name, report.example) == (Phase.GRADIENT, "scaled", None)
        assert evaluate(builder.program(), arrays, reduction=Reduction.NONE).non_finite is None

    def test_a_step_goes_before_a_sum_over_examples_of_an_earlier_block(self) -> None:
        builder = Builder()
        root = builder.op("power", builder.input("x", per_example=True), exponent=0.5, name="root")
        product = builder.op("mul", builder.parameter("w"), builder.input("y", per_example=True))
        builder.op("add", builder.op("mul", root, builder.constant(0.0)), product)
        x, y = np.ones(MANY), np.zeros(MANY)
        x[-1], y[:2] = 0, 1e308
        report = reported(builder, {"x": x, "w": 0, "y": y}, wrt=("x", "w"), reduction=Reduction.SUM)
        assert (report.phase, report.name, report.example) == (Phase.GRADIENT, "root", MANY - 1)

    def test_what_overflows_only_in_the_order_of_execution_is_reported_too(self) -> None:
        # The step of the middle one, which examples share, comes last.
        builder = Builder()
        w, x = builder.parameter("w"), builder.input("x", per_example=True)
        terms = [builder.op("mul", w, x), builder.op("mul", w, builder.constant(-1e308)), builder.op("mul", w, x)]
        builder.op("add", *terms)
        for reduction in Reduction:
            result = evaluate(builder.program(), {"w": 0, "x": [1e308]}, reduction=reduction)
            assert np.isinf(result.gradients["w"]).all()
            assert result.non_finite is not None

    @pytest.mark.parametrize(
        ("winner", "loser"),
        [
            ((Phase.VALUE, 7, 7), (Phase.GRADIENT, 9, 0)),
            ((Phase.GRADIENT, 0, 7), (Phase.REDUCTION, 9, None)),
            ((Phase.VALUE, 3, 7), (Phase.VALUE, 4, 0)),
            ((Phase.GRADIENT, 4, 7), (Phase.GRADIENT, 3, 0)),
            ((Phase.REDUCTION, 4, None), (Phase.REDUCTION, 3, None)),
            ((Phase.VALUE, 3, 4), (Phase.VALUE, 3, 5)),
            ((Phase.GRADIENT, 3, 4), (Phase.GRADIENT, 3, 5)),
        ],
    )
    def test_order(self, winner: tuple[Phase, int, int | None], loser: tuple[Phase, int, int | None]) -> None:
        a, b = (
            NonFinite(phase=phase, node=node, name="", example=example, position=(), value=NAN, operands=())
            for phase, node, example in (winner, loser)
        )
        assert [first(a, b), first(b, a), first(a, None), first(None, b)] == [a, a, a, b]


class TestOperandsOfReports:
    def test_they_are_those_of_the_example(self) -> None:
        value = reported(roots(x_inverse=-1.0), {"w": 1, "x": [1, 2, 0, 3]})
        assert (value.example, shown(value)) == (2, {"x": 0})
        builder = Builder()
        product = builder.op("mul", builder.input("x", per_example=True), builder.input("y", per_example=True))
        builder.op("mul", product, builder.constant(1e200))
        gradient = reported(builder, {"x": [0, 0, 0], "y": [1, 2, 1e200]}, wrt=("x",))
        assert (gradient.example, shown(gradient)) == (2, {"x": 0, "y": 1e200})

    @pytest.mark.parametrize("per_example", [False, True])
    def test_of_a_broadcast_operand_they_are_those_of_the_term_that_is_not_finite(self, per_example: bool) -> None:
        builder = Builder()
        a, c = builder.parameter("a", (3,)), builder.input("c", (2, 3), per_example=per_example)
        builder.op("mul", builder.op("sum", builder.op("mul", a, c, name="product")), builder.constant(1e300))
        c_values = np.array([[1.0, 2.0, 1e10], [4.0, 1e10, 3.0]])
        arrays = {"a": [0, 1e-5, 2e-5], "c": [c_values] if per_example else c_values}
        report = reported(builder, arrays)
        assert (report.phase, report.name, report.position) == (Phase.GRADIENT, "product", (1,))
        assert shown(report) == {"a": 1e-5, "c": 1e10}

    def test_of_a_sum_of_finite_terms_they_are_those_of_the_largest(self) -> None:
        builder = Builder()
        product = builder.op("mul", builder.parameter("a"), builder.input("c", (4,)))
        builder.op("mul", builder.op("sum", product), builder.constant(1e300))
        report = reported(builder, {"a": 0, "c": [1e7, 8e7, 1.5e8, 1e8]})
        assert (report.phase, shown(report)) == (Phase.GRADIENT, {"a": 0, "c": 1.5e8})

    @pytest.mark.parametrize(
        ("axes", "keepdims", "position"), [((1,), False, (1,)), ((1,), True, (1, 0)), ((0,), True, (0, 1))]
    )
    def test_of_a_reduction_they_are_among_those_it_read(
        self, axes: tuple[int, ...], keepdims: bool, position: tuple[int, ...]
    ) -> None:
        x = np.array([[1.7e308, -1.7e308, 3.0], [1e308, 1.2e308, 1.1e308]])
        x = x if axes == (1,) else x.T
        builder = Builder()
        total = builder.op("sum", builder.parameter("x", x.shape), axes=axes, keepdims=keepdims)
        builder.op("sum", total)
        report = reported(builder, {"x": x})
        assert (report.node, report.position, shown(report)) == (1, position, {"x": 1.2e308})

    def test_of_a_matrix_product_they_are_of_its_row_and_column(self) -> None:
        builder = Builder()
        a, b = builder.parameter("a", (2, 2)), builder.parameter("b", (2, 2))
        builder.op("sum", builder.op("matmul", a, b, name="product"))
        report = reported(builder, {"a": [[0, 1e200], [1e250, 0]], "b": [[1e40, -7], [0, 1e150]]})
        assert (report.name, report.position, shown(report)) == ("product", (0, 1), {"a": 1e200, "b": 1e150})

    def test_of_the_gradient_of_a_matrix_product_they_are_the_element_and_the_largest_of_the_other(self) -> None:
        builder = Builder()
        a, b = builder.parameter("a", (2, 2)), builder.input("b", (2, 2))
        product = builder.op("matmul", a, b, name="product")
        builder.op("sum", builder.op("mul", product, builder.constant(1e300)))
        report = reported(builder, {"a": [[0, 1e-9], [9, 0]], "b": [[5, -7], [1, 1e10]]})
        assert (report.phase, report.name, report.position) == (Phase.GRADIENT, "product", (0, 1))
        assert shown(report) == {"a": 1e-9, "b": 1e10}


class TestTake:
    def test_negative_indices_count_from_the_end_and_repeated_ones_add_up(self) -> None:
        builder = Builder()
        rows, indices = builder.parameter("rows", (3,)), builder.input("indices", (4,), integer=True)
        taken = builder.op("take", rows, indices)
        builder.op("sum", taken)
        arrays = {"rows": [10, 20, 30], "indices": np.array([0, -1, 2, -3])}
        result = evaluate(builder.program(), arrays, outputs=(taken,))
        assert result.outputs[taken].tolist() == [10, 30, 30, 10]
        assert result.gradients["rows"].tolist() == [2, 0, 2]

    @pytest.mark.parametrize("index", [3, -4, 2**62, -(2**63)])
    def test_an_index_out_of_range_is_named_with_its_place(self, index: int) -> None:
        builder = Builder()
        rows = builder.parameter("rows", (3,))
        builder.op("take", rows, builder.input("i", (2,), per_example=True, integer=True), name="picked")
        builder.op("sum", 2)
        arrays = {"rows": [1, 2, 3], "i": np.array([[0, 1], [2, 0], [1, index]])}
        refusal = refused(builder, arrays)
        assert refusal.reason is Reason.INDEX_OUT_OF_RANGE
        words = ('"picked"', str(index), "3 rows", "example 2", "(1,)")
        assert [word for word in words if word not in refusal.message] == [], refusal.message

    @pytest.mark.parametrize("per_example", [False, True])
    @pytest.mark.parametrize("reduction", [Reduction.SUM, Reduction.NONE])
    def test_rows_may_have_as_many_axes_as_any_tensor(self, per_example: bool, reduction: Reduction) -> None:
        shape = (2, *(1,) * 30, 2)
        builder = Builder()
        rows = builder.input("rows", shape, per_example=per_example)
        taken = builder.op("take", rows, builder.input("i", (), per_example=True, integer=True))
        builder.op("sum", builder.op("mul", taken, builder.constant([3.0, 5.0])))
        examples = np.arange(12.0).reshape(3, *shape)
        arrays = {"rows": examples if per_example else examples[0], "i": np.array([1, 0, 1])}
        result = evaluate(builder.program(), arrays, wrt=("rows",), reduction=reduction)
        losses = [3 * 2 + 5 * 3, 3 * 4 + 5 * 5, 3 * 10 + 5 * 11] if per_example else [21, 5, 21]
        own = [[[0, 0], [3, 5]], [[3, 5], [0, 0]], [[0, 0], [3, 5]]]
        separate = per_example or reduction is Reduction.NONE
        assert result.loss.tolist() == (losses if reduction is Reduction.NONE else sum(losses))
        assert result.gradients["rows"].squeeze().tolist() == (own if separate else [[3, 5], [6, 10]])

    @pytest.mark.parametrize("examples", [1, 2, 4097])
    def test_an_index_of_an_example_is_named_with_it_also_if_it_is_alone_in_its_block(self, examples: int) -> None:
        builder = Builder()
        builder.op("take", builder.parameter("rows", (3,)), builder.input("i", per_example=True, integer=True))
        indices = np.zeros(examples, np.int64)
        indices[-1] = 3
        refusal = refused(builder, {"rows": [1, 2, 3], "i": indices})
        assert f"index 3 at position () of example {examples - 1} is" in refusal.message

    @pytest.mark.parametrize("examples", [1, 2])
    @pytest.mark.parametrize("per_example", [False, True])
    def test_an_index_that_examples_share_is_of_none(self, examples: int, per_example: bool) -> None:
        builder = Builder()
        rows = builder.input("rows", (3,), per_example=per_example)
        taken = builder.op("take", rows, builder.input("i", integer=True))
        builder.op("mul", taken, builder.input("x", per_example=True))
        arrays = {"rows": np.ones((examples, 3) if per_example else 3), "i": np.array(3), "x": np.ones(examples)}
        assert "index 3 at position () is out of range" in refused(builder, arrays).message

    def test_indices_have_no_gradient(self) -> None:
        builder = Builder()
        builder.op("take", builder.parameter("rows", (3,)), builder.input("i", integer=True))
        refusal = refused(builder, {"rows": [1, 2, 3], "i": np.array(1)}, wrt=("i",))
        assert [word for word in ('"i"', "int64") if word not in refusal.message] == [], refusal.message

    def test_only_take_uses_int64(self) -> None:
        builder = Builder()
        builder.input("i", integer=True)
        assert "int64" in refusal_of(builder).message


class TestNames:
    def test_sources_have_unique_non_empty_names(self) -> None:
        builder = Builder()
        builder.parameter("w")
        builder.input("w")
        builder.parameter("")
        findings = refusal_of(builder, 0).findings
        assert [finding.path for finding in findings] == ["nodes[1].name", "nodes[2].name"]
        assert "unique" in findings[0].message
        assert "without a name" in findings[1].message


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


class TestAttributes:
    def test_negative_axes_are_those_from_the_end(self) -> None:
        assert unary("sum", np.ones((2, 3)), axes=(-1,)).outputs[1].tolist() == [3, 3]
        transposed = unary("transpose", [[1, 2, 3]], axes=(-1, -2)).outputs[1]
        assert transposed.tolist() == [[1], [2], [3]]

    def test_transpose_without_a_permutation_reverses_the_axes(self) -> None:
        assert unary("transpose", np.ones((2, 3, 4))).outputs[1].shape == (4, 3, 2)

    def test_reshape_works_out_one_axis_at_registration(self) -> None:
        builder = Builder()
        shaped = builder.op("reshape", builder.parameter("x", (2, 3)), shape=(3, -1))
        builder.op("sum", shaped)
        assert builder.program().shapes[shaped] == (3, 2)


@pytest.mark.parametrize(
    ("operand", "words"), [(1, "itself"), (2, "later"), (99, "past the end"), (-1, "past the end")]
)
def test_operands_are_earlier_nodes(operand: int, words: str) -> None:
    builder = Builder()
    builder.parameter("w")
    builder.op("exp", operand)
    builder.constant(1)
    refusal = refusal_of(builder, 0)
    assert words in refusal.message
    assert refusal.findings[0].path == "nodes[1].exp.operands[0]"


def test_backward_twice_adds_nothing() -> None:
    program = squares().program()
    first = evaluate(program, {"w": 3, "x": [1, 2]})
    again = evaluate(program, {"w": 3, "x": [1, 2]})
    assert first.gradients["w"].tobytes() == again.gradients["w"].tobytes()


def test_branches_add_up() -> None:
    builder = Builder()
    w = builder.parameter("w")
    s = builder.op("sigmoid", w)
    builder.op("add", builder.op("mul", s, s), s, w)
    # d/dw (s^2 + s + w) = (2 s + 1) s (1 - s) + 1 at s = 1/2.
    assert evaluate(builder.program(), {"w": 0}).gradients["w"] == 1.5
