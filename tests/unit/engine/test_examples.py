"""Examples and their reductions, losses, and tensors without elements."""

from __future__ import annotations

import numpy as np
import pytest

from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.errors import Reason
from tests.unit.engine.building import (
    Builder,
    evaluate,
    refusal_of,
    refused,
    squares,
)


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


def test_backward_twice_adds_nothing() -> None:
    program = squares().program()
    first = evaluate(program, {"w": 3, "x": [1, 2]})
    again = evaluate(program, {"w": 3, "x": [1, 2]})
    assert first.gradients["w"].tobytes() == again.gradients["w"].tobytes()
