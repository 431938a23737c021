"""The hinge loss against its closed form: the gradient is -I(margin < 1) phi(x) y."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.engine.run.program import Program
from tests.losses import hinge, hinge_by_hand
from tests.unit.engine.building import Builder, evaluate


def program(features: int) -> Program:
    """max(0, 1 - (w . phi) y), box by box."""
    builder = Builder()
    w = builder.parameter("w", (features,))
    phi = builder.input("phi", (features,), per_example=True)
    y = builder.input("y", per_example=True)
    score = builder.op("sum", builder.op("mul", w, phi))
    margin = builder.op("mul", score, y, name="margin")
    residual = builder.op("add", builder.constant(1), builder.op("mul", builder.constant(-1), margin))
    builder.op("max", residual, builder.constant(0))
    return builder.program()


@pytest.mark.parametrize("examples", [1, 2, 5, 100, 100_000])
@pytest.mark.parametrize(("dtype", "rtol"), [(np.float64, 1e-11), (np.float32, 1e-4)])
def test_values_and_gradients(examples: int, dtype: type, rtol: float) -> None:
    arrays = {name: array.astype(dtype) for name, array in hinge(examples, 30).arrays.items()}
    losses, gradients = hinge_by_hand(**{name: array.astype(np.float64) for name, array in arrays.items()})
    expected: dict[Reduction, Any] = {
        Reduction.MEAN: (losses.mean(), gradients.mean(axis=0)),
        Reduction.SUM: (losses.sum(), gradients.sum(axis=0)),
        Reduction.NONE: (losses, gradients),
    }
    for reduction, (loss, gradient) in expected.items():
        result = evaluate(program(30), arrays, dtype, reduction=reduction)
        np.testing.assert_allclose(result.loss, loss, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(result.gradients["w"], gradient, rtol=rtol, atol=rtol * np.abs(gradient).max())
    assert result.blocks > 1 or examples < 100_000


def test_at_a_margin_of_exactly_one_the_gradient_is_exactly_zero() -> None:
    result = evaluate(
        program(2), {"w": [1, 0], "phi": [[1, 5], [-1, 5], [0.5, 5]], "y": [1, -1, 1]}, reduction=Reduction.NONE
    )
    assert result.loss.tolist() == [0, 0, 0.5]
    assert result.gradients["w"].tolist() == [[0, 0], [0, 0], [-0.5, -5]]
