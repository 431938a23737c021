"""The kernel, the tape of packed operations, and NumPy: whichever computes a node, the result is the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest

from gradwire_server.engine import OPS, Evaluation, Reduction
from tests.unit.engine.graphs import Builder, evaluate
from tests.unit.engine.swarms import columns

INF = np.inf
WITHOUT_KERNELS = {name: replace(op, kernel=None, tape=None) for name, op in OPS.items()}


def results(builder: Builder, rows: Any, dtype: type, **query: Any) -> Evaluation:
    return evaluate(builder.program(), {"x": rows}, dtype, reduction=Reduction.NONE, wrt=("x",), **query)


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("examples", [1, 40])
@pytest.mark.parametrize(
    ("op", "row", "attributes"),
    [
        ("max", (0.0, -0.0), {}),
        ("max", (-0.0, 0.0), {}),
        ("max", (-0.0, -0.0, 0.0), {}),
        ("power", (-INF,), {"exponent": 0.5}),
        ("power", (-0.0,), {"exponent": 0.5}),
        ("power", (2.0,), {"exponent": 0.5}),
        ("power", (-INF,), {"exponent": 1.5}),
        ("power", (3.0,), {"exponent": 1.1}),
        ("power", (1e-30,), {"exponent": 1.0000001}),
        ("power", (7e30,), {"exponent": 1 + 1e-9}),
    ],
)
def test_all_give_the_same(
    op: str, row: tuple[float, ...], attributes: dict[str, Any], examples: int, dtype: type
) -> None:
    rows = np.tile(np.array(row), (examples, 1))
    apart, together = Builder(), Builder()
    x = apart.input("x", (len(row),), per_example=True)
    scalars = [apart.op("take", x, apart.constant(np.array(i))) for i in range(len(row))]
    node = apart.op(op, *scalars, **attributes)
    apart.op("add", node, apart.constant(0.0))
    x = together.input("x", (len(row),), per_example=True)
    operations: list[Any] = [(op, list(range(len(row))), *attributes.values())]
    packed = columns(operations, [len(row)])
    node_of_packed = together.op("scalars", x, **packed)
    together.op("sum", node_of_packed)
    found = [results(apart, rows, dtype, outputs=(node,)), results(together, rows, dtype, outputs=(node_of_packed,))]
    with patch("gradwire_server.engine.compiler.OPS", WITHOUT_KERNELS):
        expected = results(apart, rows, dtype, outputs=(node,))
    for each in found:
        [value] = each.outputs.values()
        np.testing.assert_array_equal(value.ravel(), expected.outputs[node])
        np.testing.assert_array_equal(np.signbit(value.ravel()), np.signbit(expected.outputs[node]))
        np.testing.assert_allclose(each.gradients["x"], expected.gradients["x"], rtol=4 * float(np.finfo(dtype).eps))
        assert (each.non_finite is None) == (expected.non_finite is None)
