"""Plans that multiply matrices where the graph says something else, and still report what the graph says."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from gradwire_server.engine import Evaluation, Phase, Program, Query, Reduction, bind, trace
from tests.unit.engine.graphs import LIMITS, Builder, evaluate, nothing

EXAMPLES = 300

Write = Callable[[Builder, int, int], int]
Formula = Callable[[Any, Any], Any]


def summed(*axes: int, keepdims: bool = False) -> Write:
    return lambda b, w, x: b.op("sum", b.op("mul", w, x), axes=axes, keepdims=keepdims)


CASES: dict[str, tuple[tuple[int, ...], tuple[int, ...], Write, Formula]] = {
    "two vectors": ((5,), (5,), summed(), lambda w, x: (w * x).sum()),
    "kept axes": ((5,), (5,), summed(0, keepdims=True), lambda w, x: (w * x).sum(0, keepdim=True)),
    "two matrices": ((4, 5), (4, 5), summed(), lambda w, x: (w * x).sum()),
    "rows of a shared matrix": ((4, 5), (5,), summed(1), lambda w, x: (w * x).sum(1)),
    "rows of a matrix of each example": ((5,), (3, 4, 5), summed(2), lambda w, x: (w * x).sum(2)),
    "rows that are kept": ((2, 3), (4, 2, 3), summed(-1, -2, keepdims=True), lambda w, x: (w * x).sum((1, 2), True)),
    "a transposed matrix": (
        (5, 4),
        (5,),
        lambda b, w, x: b.op("matmul", b.op("transpose", w), x),
        lambda w, x: w.T @ x,
    ),
    "a transposed matrix of each example": (
        (5,),
        (5, 4),
        lambda b, w, x: b.op("matmul", b.op("transpose", x), w),
        lambda w, x: x.T @ w,
    ),
    "an example in another shape": (
        (4, 6),
        (2, 3),
        lambda b, w, x: b.op("matmul", w, b.op("reshape", x, shape=(6,))),
        lambda w, x: w @ x.reshape(6),
    ),
    "a vector as a matrix": (
        (20,),
        (5,),
        lambda b, w, x: b.op("matmul", b.op("reshape", w, shape=(4, -1)), x),
        lambda w, x: w.reshape(4, 5) @ x,
    ),
}


def built(name: str) -> Program:
    w_shape, x_shape, write, _ = CASES[name]
    builder = Builder()
    node = write(builder, builder.parameter("w", w_shape), builder.input("x", x_shape, per_example=True))
    builder.op("sum", builder.op("power", builder.op("tanh", node), exponent=2.0))
    return builder.program()


def arrays_of(name: str) -> dict[str, Any]:
    random = np.random.default_rng(0)
    w_shape, x_shape, _, _ = CASES[name]
    return {"w": random.normal(size=w_shape), "x": random.normal(size=(EXAMPLES, *x_shape))}


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("reduction", list(Reduction))
def test_value_and_gradients_are_those_of_torch(name: str, reduction: Reduction) -> None:
    program, arrays, formula = built(name), arrays_of(name), CASES[name][3]
    query = Query(arrays=arrays, dtype=np.dtype(np.float64), reduction=reduction, wrt=("w", "x"))
    assert bind(program, query, LIMITS).plan.merged
    result = evaluate(program, arrays, reduction=reduction, wrt=("w", "x"))
    w, x = (torch.tensor(arrays[source]) for source in ("w", "x"))
    slope = torch.func.vmap(
        torch.func.grad_and_value(lambda w, x: (formula(w, x).tanh() ** 2).sum(), (0, 1)), (None, 0)
    )
    (to_w, to_x), losses = slope(w, x)
    if reduction is not Reduction.NONE:
        to_w, losses = to_w.sum(0), losses.sum(0)
    if reduction is Reduction.MEAN:
        to_w, to_x, losses = to_w / EXAMPLES, to_x / EXAMPLES, losses / EXAMPLES
    np.testing.assert_allclose(result.loss, losses.numpy(), rtol=1e-10)
    np.testing.assert_allclose(result.gradients["w"], to_w.numpy(), rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(result.gradients["x"], to_x.numpy(), rtol=1e-9, atol=1e-11)


def test_what_is_merged_can_still_be_asked_for() -> None:
    program, arrays = built("two vectors"), arrays_of("two vectors")
    result = evaluate(program, arrays, outputs=(2,))
    np.testing.assert_array_equal(result.outputs[2], arrays["w"] * arrays["x"])
    traced = trace(program, {**arrays, "x": arrays["x"][7]}, np.dtype(np.float64), LIMITS, nothing)
    np.testing.assert_array_equal(traced.nodes[2].value, arrays["w"] * arrays["x"][7])


def report_of(result: Evaluation) -> tuple[Phase, int, int | None, tuple[int, ...]]:
    report = result.non_finite
    assert report is not None
    return report.phase, report.node, report.example, report.position


@pytest.mark.parametrize("reduction", list(Reduction))
def test_a_product_that_overflows_is_reported_and_not_the_sum(reduction: Reduction) -> None:
    arrays = arrays_of("two vectors")
    arrays["w"][1] = 1e200
    arrays["x"][123, 1] = 1e200
    result = evaluate(built("two vectors"), arrays, reduction=reduction)
    assert report_of(result) == (Phase.VALUE, 2, 123, (1,))


@pytest.mark.parametrize(("source", "place", "node"), [("w", 1, 0), ("x", (123, 1), 1)])
def test_an_infinity_times_zero_is_reported_where_it_came_in(source: str, place: Any, node: int) -> None:
    arrays = arrays_of("two vectors")
    arrays["w"][1] = arrays["x"][123, 1] = 0
    arrays[source][place] = np.inf
    result = evaluate(built("two vectors"), arrays)
    assert report_of(result) == (Phase.VALUE, node, 123 if source == "x" else None, (1,))
    assert np.isnan(result.loss)


def test_a_gradient_that_overflows_is_reported_at_the_product() -> None:
    builder = Builder()
    w, x = builder.parameter("w", (2,)), builder.input("x", (2,), per_example=True)
    product = builder.op("mul", w, x)
    builder.op("mul", builder.op("sum", product), builder.constant(1e200))
    rows = np.ones((5, 2))
    rows[3, 1] = 1e200
    result = evaluate(builder.program(), {"w": np.zeros(2), "x": rows})
    assert report_of(result) == (Phase.GRADIENT, product, 3, (1,))
