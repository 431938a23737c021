"""Names, attributes and operands of graphs."""

from __future__ import annotations

import numpy as np
import pytest

from tests.unit.engine.building import (
    Builder,
    refusal_of,
    unary,
)


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
        assert builder.program().checked.shape(shaped) == (3, 2)


@pytest.mark.parametrize(("operand", "words"), [(1, "itself"), (2, "later"), (99, "past the end")])
def test_operands_are_earlier_nodes(operand: int, words: str) -> None:
    builder = Builder()
    builder.parameter("w")
    builder.op("exp", operand)
    builder.constant(1)
    refusal = refusal_of(builder, 0)
    assert words in refusal.message
    assert refusal.findings[0].path == "nodes[1].exp.operands[0]"
