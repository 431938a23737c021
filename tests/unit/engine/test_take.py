"""Rows by index."""

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
)


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
        assert f'index 3 of "i" at position () of example {examples - 1} is' in refusal.message

    @pytest.mark.parametrize("examples", [1, 2])
    @pytest.mark.parametrize("per_example", [False, True])
    def test_an_index_that_examples_share_is_of_none(self, examples: int, per_example: bool) -> None:
        builder = Builder()
        rows = builder.input("rows", (3,), per_example=per_example)
        taken = builder.op("take", rows, builder.input("i", integer=True))
        builder.op("mul", taken, builder.input("x", per_example=True))
        arrays = {"rows": np.ones((examples, 3) if per_example else 3), "i": np.array(3), "x": np.ones(examples)}
        assert 'index 3 of "i" at position () is out of range' in refused(builder, arrays).message

    def test_indices_have_no_gradient(self) -> None:
        builder = Builder()
        builder.op("take", builder.parameter("rows", (3,)), builder.input("i", integer=True))
        refusal = refused(builder, {"rows": [1, 2, 3], "i": np.array(1)}, wrt=("i",))
        assert [word for word in ('"i"', "int64") if word not in refusal.message] == [], refusal.message

    def test_only_take_uses_int64(self) -> None:
        builder = Builder()
        builder.input("i", integer=True)
        assert "int64" in refusal_of(builder).message

    def test_of_several_indices_out_of_range_that_of_the_lowest_example_is_named(self) -> None:
        builder = Builder()
        rows = builder.parameter("rows", (5,))
        i, j = (builder.input(name, per_example=True, integer=True) for name in "ij")
        builder.op("add", builder.op("take", rows, i), builder.op("take", rows, j))
        arrays = {"rows": np.ones(5), "i": np.array([0, 0, 0, 9]), "j": np.array([0, 7, 0, 0])}
        assert 'index 7 of "j" at position () of example 1 is out of range' in refused(builder, arrays).message
