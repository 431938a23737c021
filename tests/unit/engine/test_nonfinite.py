"""Reports of what is not finite."""

from __future__ import annotations

import numpy as np
import pytest

from gradwire_server.engine.explain.nonfinite import Phase
from gradwire_server.engine.explain.trace import trace
from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.errors import Reason
from tests.unit.engine.building import (
    Builder,
    evaluate,
    refused,
    reported,
    shown,
    squares,
    unary,
)
from tests.unit.engine.swarms import columns

INF, NAN = np.inf, np.nan

MANY = 4096 + 4
"""Examples that do not fit into one block, however small they are."""


class TestNonFinite:
    def test_the_logarithm_of_zero_is_reported(self) -> None:
        result = unary("log", [1.0, 0.0])
        assert result.loss == -INF
        report = result.non_finite
        assert report is not None
        assert (report.phase, report.node, report.position, report.value) == (Phase.VALUE, 1, (1,), -INF)
        assert [(operand.name, operand.value) for operand in report.operands] == [("x", 0.0)]

    def test_an_infinite_slope_is_reported_with_its_node(self) -> None:
        builder = Builder()
        root = builder.op("power", builder.parameter("x"), exponent=0.5, name="root")
        builder.op("mul", root, builder.constant(2.0))
        result = evaluate(builder.program(), {"x": 0})
        assert result.gradients["x"] == INF
        report = result.non_finite
        assert report is not None
        assert (report.phase, report.name) == (Phase.GRADIENT, "root")

    def test_a_gradient_of_zero_stops_before_it(self) -> None:
        builder = Builder()
        root = builder.op("power", builder.parameter("x"), exponent=0.5)
        builder.op("mul", root, builder.constant(0.0))
        result = evaluate(builder.program(), {"x": 0})
        assert (result.non_finite, float(result.gradients["x"])) == (None, 0.0)

    @pytest.mark.parametrize("shape", [(), (3,)])
    @pytest.mark.parametrize("above", [True, False])
    @pytest.mark.parametrize("op", ["less", "equal", "select", "stop_gradient"])
    def test_nothing_is_reported_of_steps_that_gradients_do_not_come_to(
        self, op: str, above: bool, shape: tuple[int, ...]
    ) -> None:
        builder = Builder()
        x = builder.parameter("x", shape)
        zero, one = builder.constant(0.0), builder.constant(1.0)
        arguments = {"select": (one, zero), "stop_gradient": ()}.get(op, (builder.constant(-0.5),))
        # Above, the reciprocal of 1e-200 has a slope that is infinite; below, the root of 0.
        compared = x if above else builder.op("power", x, exponent=0.5)
        found = builder.op(op, compared, *arguments)
        if above:
            found = builder.op("power", builder.op("add", found, builder.constant(1e-200)), exponent=-1)
        builder.op("sum", builder.op("mul", builder.op("add", found, x), builder.constant(2.0)))
        result = evaluate(builder.program(), {"x": np.zeros(shape)}, wrt=("x",))
        assert result.non_finite is None
        np.testing.assert_array_equal(result.gradients["x"], np.full(shape, 2.0))

    @pytest.mark.parametrize("bad", [NAN, INF, -INF])
    def test_what_came_in_is_reported_on_its_source(self, bad: float) -> None:
        result = evaluate(squares().program(), {"w": 1, "x": [1, bad, bad]})
        report = result.non_finite
        assert report is not None
        assert (report.phase, report.name, report.example) == (Phase.VALUE, "x", 1)

    def test_the_lowest_example_goes_before_the_lowest_node(self) -> None:
        builder = Builder()
        x, y = builder.input("x", per_example=True), builder.input("y", per_example=True)
        first, second = builder.op("log", x, name="first"), builder.op("log", y, name="second")
        builder.op("add", first, second)
        arrays = {"x": [1, 1, 0, 0], "y": [1, 0, 0, 1]}
        report = reported(builder, arrays)
        assert (report.name, report.example) == ("second", 1)
        # In one example it is the lowest node.
        report = reported(builder, {name: values[2:] for name, values in arrays.items()})
        assert (report.name, report.example) == ("first", 0)

    @pytest.mark.parametrize("reduction", list(Reduction))
    def test_a_gradient_of_a_lower_example_goes_before_a_value_of_a_higher(self, reduction: Reduction) -> None:
        builder = Builder()
        x = builder.input("x", per_example=True)
        builder.op("add", builder.op("power", x, exponent=0.5, name="root"), builder.op("exp", x, name="huge"))
        report = reported(builder, {"x": [1, 0, 1000]}, wrt=("x",), reduction=reduction)
        assert (report.phase, report.name, report.example) == (Phase.GRADIENT, "root", 1)

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
    """The sum of a power of each: x is per example, w a parameter; later ones have higher nodes."""
    builder = Builder()
    sources = {"w": builder.parameter("w"), "x": builder.input("x", per_example=True)}
    terms = [builder.op("power", sources[name[0]], exponent=exponents[name], name=name) for name in exponents]
    builder.op("add", *terms, builder.constant(0.0))
    return builder


class TestFirstNonFinite:
    """Which of several places is reported: one and the same, whatever the order of execution."""

    @pytest.mark.parametrize("reduction", list(Reduction))
    @pytest.mark.parametrize(
        ("names", "x", "name", "example"),
        [
            (("x", "w"), [0, 0], "w", None),
            (("w", "x"), [0, 0], "x", 0),
            # What examples share is in the first of them.
            (("w", "x"), [1, 0], "w", None),
            (("x", "x_again"), [1, 0], "x_again", 1),
        ],
    )
    def test_of_gradients_it_is_that_of_the_highest_node_of_the_lowest_example(
        self, names: tuple[str, ...], x: list[float], name: str, example: int | None, reduction: Reduction
    ) -> None:
        builder = roots(**{f"{name}_root": 0.5 for name in names})
        report = reported(builder, {"w": 0, "x": x}, wrt=("w", "x"), reduction=reduction)
        assert (report.phase, report.name, report.example) == (Phase.GRADIENT, f"{name}_root", example)
        alone = {"w": np.zeros(()), "x": np.array(float(x[example or 0]))}
        traced = trace(builder.program().checked, alone, np.dtype(np.float64)).non_finite
        assert traced is not None
        assert (traced.phase, traced.name, traced.example) == (Phase.GRADIENT, f"{name}_root", None)
        assert (traced.position, shown(traced)) == (report.position, shown(report))
        np.testing.assert_equal(traced.value, report.value)

    @pytest.mark.parametrize("reduction", list(Reduction))
    def test_a_lower_step_of_an_earlier_block_goes_before_a_higher_one_of_a_later(self, reduction: Reduction) -> None:
        x = np.ones((MANY, 2))
        x[[1, 2], 0] = x[[-3, -2], 1] = 0
        builder = Builder()
        lower, higher = (
            builder.op("power", builder.op("take", source, builder.constant(np.array(i))), exponent=0.5, name=name)
            for source in [builder.input("x", (2,), per_example=True)]
            for i, name in enumerate(("lower", "higher"))
        )
        builder.op("add", lower, higher)
        report = reported(builder, {"x": x}, wrt=("x",), reduction=reduction)
        assert (report.name, report.example) == ("lower", 1)
        x[:3] = 1
        report = reported(builder, {"x": x}, wrt=("x",), reduction=reduction)
        assert (report.name, report.example) == ("higher", MANY - 3)

    def test_of_a_few_lanes_with_large_gradients_it_is_the_lowest_too(self) -> None:
        builder = Builder()
        w = builder.op("sum", builder.parameter("w", (1 << 16,)))
        low = builder.op("power", builder.input("low", per_example=True), exponent=0.5, name="lower")
        high = builder.op("power", builder.input("high", per_example=True), exponent=0.5, name="higher")
        builder.op("add", w, low, high)
        low_rows, high_rows = np.ones(100), np.ones(100)
        low_rows[[60, 99]] = high_rows[[50, 98]] = 0
        arrays = {"w": np.ones(1 << 16), "low": low_rows, "high": high_rows}
        for reduction in Reduction:
            report = reported(builder, arrays, wrt=("w", "low", "high"), reduction=reduction)
            assert (report.name, report.example) == ("higher", 50)

    @pytest.mark.parametrize("reduction", list(Reduction))
    def test_of_examples_it_is_the_lowest_also_beyond_the_first_block(self, reduction: Reduction) -> None:
        x = np.ones(2 * MANY)
        x[[4098, 4099, -1]] = 0
        gradient = reported(roots(x_root=0.5), {"w": 1, "x": x}, wrt=("x",), reduction=reduction)
        assert (gradient.phase, gradient.example) == (Phase.GRADIENT, 4098)
        value = reported(roots(x_inverse=-1.0), {"w": 1, "x": x}, reduction=reduction)
        assert (value.phase, value.name, value.example) == (Phase.VALUE, "x_inverse", 4098)

    def test_a_gradient_that_overflows_only_for_the_sum_is_of_the_reduction(self) -> None:
        builder = Builder()
        w = builder.parameter("w")
        scaled = builder.op("mul", w, builder.constant(1e200), name="scaled")
        plain = builder.op("mul", w, builder.constant(1.0), name="plain")
        builder.op("mul", builder.op("add", scaled, plain), builder.input("x", per_example=True))
        arrays = {"w": 0, "x": [1e108, 1e108]}
        report = reported(builder, arrays, reduction=Reduction.SUM)
        assert (report.phase, report.name, report.example) == (Phase.REDUCTION, "w", None)
        assert evaluate(builder.program(), arrays, reduction=Reduction.NONE).non_finite is None

    def test_a_step_goes_before_a_sum_over_examples_of_an_earlier_block(self) -> None:
        builder = Builder()
        root = builder.op("power", builder.input("x", per_example=True), exponent=0.5, name="root")
        product = builder.op("mul", builder.parameter("w"), builder.input("y", per_example=True))
        builder.op("add", root, product)
        x, y = np.ones(MANY), np.zeros(MANY)
        x[-1], y[:2] = 0, 1e308
        report = reported(builder, {"x": x, "w": 0, "y": y}, wrt=("x", "w"), reduction=Reduction.SUM)
        assert (report.phase, report.name, report.example) == (Phase.GRADIENT, "root", MANY - 1)

    def test_what_overflows_only_in_the_order_of_execution_is_reported_too(self) -> None:
        # Whether it does depends on when the step of the middle one comes, which examples share.
        builder = Builder()
        w, x = builder.parameter("w"), builder.input("x", per_example=True)
        terms = [builder.op("mul", w, x), builder.op("mul", w, builder.constant(-1e308)), builder.op("mul", w, x)]
        builder.op("add", *terms)
        for reduction in Reduction:
            result = evaluate(builder.program(), {"w": 0, "x": [1e308]}, reduction=reduction)
            assert np.isfinite(result.gradients["w"]).all() == (result.non_finite is None)


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

    @pytest.mark.parametrize("order", [("w", "empty"), ("empty", "w")])
    def test_of_a_gradient_there_are_none_of_an_operand_without_elements(self, order: tuple[str, str]) -> None:
        builder = Builder()
        sources = {"w": builder.parameter("w", (1,)), "empty": builder.input("empty", (0,))}
        node = builder.op("scalars", *(sources[name] for name in order), name="twice", **columns([], [0, 0]))
        builder.op("sum", builder.op("mul", node, builder.constant(1.5e308)))
        report = reported(builder, {"w": [0.5], "empty": np.empty(0)})
        assert (report.phase, report.name, report.value) == (Phase.GRADIENT, "twice", INF)
        assert shown(report) == {"w": 0.5}


@pytest.mark.parametrize("reduction", [Reduction.MEAN, Reduction.SUM])
def test_a_gradient_in_what_examples_share_is_reported_where_the_first_example_has_none(reduction: Reduction) -> None:
    builder = Builder()
    root = builder.op("power", builder.parameter("w"), exponent=0.5)
    builder.op("mul", root, builder.input("x", per_example=True))
    report = evaluate(builder.program(), {"w": 0.0, "x": np.array([0, 0, 0, 1.0, 1.0])}, reduction=reduction).non_finite
    assert report is not None
    assert (report.phase, report.node) == (Phase.GRADIENT, root)


@pytest.mark.parametrize("shape", [(), (3,)])
def test_an_exponent_that_rounds_to_zero_has_no_slope(shape: tuple[int, ...]) -> None:
    builder = Builder()
    w = builder.parameter("w", shape)
    power = builder.op("power", w, exponent=1e-50)
    builder.op("sum", power)
    result = evaluate(builder.program(), {"w": np.zeros(shape)}, np.float32)
    assert result.non_finite is None
    assert not result.gradients["w"].any()


@pytest.mark.parametrize("shape", [(), (2,)])
def test_a_product_of_several_passes_back_the_product_of_the_others(shape: tuple[int, ...]) -> None:
    builder = Builder()
    a, b, c = (builder.parameter(name, shape) for name in "abc")
    product = builder.op("mul", builder.op("mul", a, b, c), builder.constant(1e-200))
    builder.op("sum", product)
    arrays = {"a": np.full(shape, 1e-300), "b": np.full(shape, 1e200), "c": np.full(shape, 1e200)}
    report = evaluate(builder.program(), arrays).non_finite
    assert report is not None
    assert report.phase is Phase.GRADIENT
