"""Matrix products whose gradients are written where they belong."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from gradwire_server.engine.explain.nonfinite import Phase
from gradwire_server.engine.explain.trace import trace
from gradwire_server.engine.graph.graph import Reduction
from gradwire_server.engine.run.program import Program
from tests.unit.engine.building import Builder, evaluate

LAYERS = 7, 5, 3
EXAMPLES = 300


def perceptron(*, transposed: bool = False) -> Program:
    """Two layers, and the sum of squares; weights as [out, in], or as [in, out]."""
    inputs, hidden, outputs = LAYERS
    builder = Builder()
    h = builder.input("x", (inputs,), per_example=True)
    for name, shape in (("v", (hidden, inputs)), ("w", (outputs, hidden))):
        matrix = builder.parameter(name, shape[::-1] if transposed else shape)
        h = builder.op("matmul", h, matrix) if transposed else builder.op("matmul", matrix, h)
        h = builder.op("max", h, builder.constant(0))
    builder.op("sum", builder.op("power", h, exponent=2.0))
    return builder.program()


def arrays_of(dtype: type, *, transposed: bool = False) -> dict[str, Any]:
    random = np.random.default_rng(0)
    inputs, hidden, outputs = LAYERS
    arrays = {
        "v": random.normal(size=(hidden, inputs)),
        "w": random.normal(size=(outputs, hidden)),
        "x": random.normal(size=(EXAMPLES, inputs)),
    }
    return {
        name: np.ascontiguousarray(array.T if transposed and name != "x" else array, dtype)
        for name, array in arrays.items()
    }


@pytest.mark.parametrize("transposed", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-5), (np.float64, 1e-13)])
def test_gradients_of_each_example_are_those_of_torch(dtype: type, tolerance: float, *, transposed: bool) -> None:
    arrays = arrays_of(dtype, transposed=transposed)
    result = evaluate(perceptron(transposed=transposed), arrays, dtype, reduction=Reduction.NONE)

    def loss(v: Any, w: Any, x: Any) -> Any:
        if transposed:
            return torch.relu(torch.relu(x @ v) @ w).square().sum()
        return torch.relu(w @ torch.relu(v @ x)).square().sum()

    tensors = [torch.tensor(arrays[name]) for name in ("v", "w", "x")]
    expected = torch.func.vmap(torch.func.grad(loss, (0, 1)), (None, None, 0))(*tensors)
    for name, gradients in zip(("v", "w"), expected, strict=True):
        ours = result.gradients[name]
        np.testing.assert_allclose(ours, gradients.numpy(), rtol=tolerance, atol=tolerance * np.abs(ours).max())
        # As of a sum that begins with 0.
        assert not np.signbit(ours[ours == 0]).any()


def test_gradients_of_each_example_add_up_to_those_of_the_sum() -> None:
    arrays = arrays_of(np.float64)
    separate, together = (
        evaluate(perceptron(), arrays, reduction=reduction).gradients for reduction in (Reduction.NONE, Reduction.SUM)
    )
    for name in ("v", "w"):
        np.testing.assert_allclose(separate[name].sum(axis=0), together[name], rtol=1e-12)


def test_a_matrix_that_is_used_twice_gets_the_sum_of_both() -> None:
    builder = Builder()
    w, x = builder.parameter("w", (3, 3)), builder.input("x", (3,), per_example=True)
    builder.op("sum", builder.op("matmul", w, builder.op("matmul", w, x)))
    random = np.random.default_rng(1)
    matrix, rows = random.normal(size=(3, 3)), random.normal(size=(4, 3))
    result = evaluate(builder.program(), {"w": matrix, "x": rows}, reduction=Reduction.NONE)
    slope = torch.func.grad(lambda w, x: (w @ (w @ x)).sum())
    expected = torch.func.vmap(slope, (None, 0))(torch.tensor(matrix), torch.tensor(rows))
    np.testing.assert_allclose(result.gradients["w"], expected.numpy(), rtol=1e-12)


@pytest.mark.parametrize("reduction", list(Reduction))
def test_an_outer_product_that_leaves_the_range_of_floats_is_reported(reduction: Reduction) -> None:
    builder = Builder()
    w, x = builder.parameter("w", (2, 3)), builder.input("x", (3,), per_example=True)
    product = builder.op("matmul", w, x)
    builder.op("sum", builder.op("mul", product, builder.constant([1e20, 1e30])))
    program = builder.program()
    rows = np.ones((5, 3), np.float32)
    rows[3, 1] = -1e10
    arrays = {"w": np.zeros((2, 3), np.float32), "x": rows}
    report = evaluate(program, arrays, np.float32, reduction=reduction).non_finite
    assert report is not None
    assert (report.phase, report.node, report.example, report.position) == (Phase.GRADIENT, product, 3, (1, 1))
    traced = trace(program.checked, {**arrays, "x": rows[3]}, np.dtype(np.float32)).non_finite
    assert traced is not None
    assert (traced.phase, traced.node, traced.position) == (Phase.GRADIENT, product, (1, 1))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("columns", [1, 2, 7, 64, 200])
@pytest.mark.parametrize("examples", [1, 3, 300])
def test_an_input_that_is_not_finite_is_reported_wherever_it_is_and_whatever_it_is_multiplied_with(
    examples: int, columns: int, dtype: type, value: float
) -> None:
    builder = Builder()
    x = builder.input("x", (columns,), per_example=True)
    product = builder.op("matmul", builder.parameter("W", (3, columns)), x)
    # The maximum would hide a product of -inf.
    builder.op("sum", builder.op("max", product, builder.constant(0.0)))
    program = builder.program()
    for column in {0, columns // 2, columns - 1}:
        for example in {0, examples - 1}:
            x_array = np.ones((examples, columns))
            x_array[example, column] = value
            report = evaluate(program, {"W": np.zeros((3, columns)), "x": x_array}, dtype).non_finite
            assert report is not None
            assert (report.name, report.example, report.position) == ("x", example, (column,))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_an_input_that_only_products_without_elements_have_read_is_looked_at(value: float) -> None:
    builder = Builder()
    x = builder.input("x", (2,), per_example=True)
    builder.op("sum", builder.op("matmul", builder.parameter("W", (0, 2)), x))
    report = evaluate(builder.program(), {"W": np.zeros((0, 2)), "x": [[1.0, 1.0], [1.0, value]]}).non_finite
    assert report is not None
    assert (report.name, report.example, report.position) == ("x", 1, (1,))


@pytest.mark.parametrize(
    ("a", "b"),
    [
        ((5, 4), (4, 3)),
        ((5, 4), (4,)),
        ((4,), (4, 3)),
        ((5, 1), (1, 5)),
        ((7, 2, 4), (4, 3)),
        ((2, 4), (7, 4, 3)),
        ((7, 1, 2, 4), (2, 4, 3)),
        ((1, 7, 2, 4), (3, 1, 4, 2)),
    ],
)
@pytest.mark.parametrize("examples", [0, 1, 3])
def test_stacks_of_products_are_those_of_torch(a: tuple[int, ...], b: tuple[int, ...], examples: int) -> None:
    random = np.random.default_rng(0)
    builder = Builder()
    left = builder.input("a", a, per_example=True) if examples else builder.parameter("a", a)
    builder.op("sum", builder.op("power", builder.op("matmul", left, builder.parameter("b", b)), exponent=2.0))
    arrays = {"a": random.normal(size=(examples, *a) if examples else a), "b": random.normal(size=b)}
    ours = evaluate(builder.program(), arrays, reduction=Reduction.SUM, wrt=("a", "b"))
    tensors = [torch.tensor(arrays[name], requires_grad=True) for name in ("a", "b")]
    rows = list(tensors[0]) if examples else [tensors[0]]
    loss = torch.stack([torch.matmul(row, tensors[1]).square().sum() for row in rows]).sum()
    np.testing.assert_allclose(ours.loss, loss.item(), rtol=1e-12)
    for name, gradient in zip(("a", "b"), torch.autograd.grad(loss, tensors), strict=True):
        np.testing.assert_allclose(ours.gradients[name], gradient.numpy(), rtol=1e-12, atol=1e-12)


def merged(*axes: int, keepdims: bool = False) -> Any:
    return lambda b, w, x: b.op("sum", b.op("mul", w, x), axes=axes, keepdims=keepdims)


SUMS: dict[str, Any] = {
    "two vectors": ((5,), (5,), merged(), lambda w, x: (w * x).sum()),
    "kept axes": ((5,), (5,), merged(0, keepdims=True), lambda w, x: (w * x).sum(0, keepdim=True)),
    "two matrices": ((4, 5), (4, 5), merged(), lambda w, x: (w * x).sum()),
    "rows of a shared matrix": ((4, 5), (5,), merged(1), lambda w, x: (w * x).sum(1)),
    "rows of a matrix of each example": ((5,), (3, 4, 5), merged(2), lambda w, x: (w * x).sum(2)),
    "rows that are kept": ((2, 3), (4, 2, 3), merged(-1, -2, keepdims=True), lambda w, x: (w * x).sum((1, 2), True)),
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
"""Sums of products and views of matrices: shapes of w and of x, the graph, the formula."""


def summed(name: str) -> Program:
    w_shape, x_shape, write, _ = SUMS[name]
    builder = Builder()
    node = write(builder, builder.parameter("w", w_shape), builder.input("x", x_shape, per_example=True))
    builder.op("sum", builder.op("power", builder.op("tanh", node), exponent=2.0))
    return builder.program()


def arrays_of_sum(name: str) -> dict[str, Any]:
    random = np.random.default_rng(0)
    w_shape, x_shape, _, _ = SUMS[name]
    return {"w": random.normal(size=w_shape), "x": random.normal(size=(EXAMPLES, *x_shape))}


@pytest.mark.parametrize("name", SUMS)
@pytest.mark.parametrize("reduction", list(Reduction))
def test_sums_of_products_and_views_of_matrices_are_those_of_torch(name: str, reduction: Reduction) -> None:
    program, arrays, formula = summed(name), arrays_of_sum(name), SUMS[name][3]
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


def test_a_product_that_is_summed_can_be_asked_for() -> None:
    arrays = arrays_of_sum("two vectors")
    result = evaluate(summed("two vectors"), arrays, outputs=(2,))
    np.testing.assert_array_equal(result.outputs[2], arrays["w"] * arrays["x"])


@pytest.mark.parametrize("reduction", list(Reduction))
def test_a_product_that_overflows_is_reported_and_not_the_sum(reduction: Reduction) -> None:
    arrays = arrays_of_sum("two vectors")
    arrays["w"][1] = arrays["x"][123, 1] = 1e200
    report = evaluate(summed("two vectors"), arrays, reduction=reduction).non_finite
    assert report is not None
    assert (report.phase, report.node, report.example, report.position) == (Phase.VALUE, 2, 123, (1,))


@pytest.mark.parametrize(("source", "place", "node"), [("w", 1, 0), ("x", (123, 1), 1)])
def test_an_infinity_times_zero_is_reported_where_it_came_in(source: str, place: Any, node: int) -> None:
    arrays = arrays_of_sum("two vectors")
    arrays["w"][1] = arrays["x"][123, 1] = 0
    arrays[source][place] = np.inf
    result = evaluate(summed("two vectors"), arrays)
    report = result.non_finite
    assert report is not None
    assert (report.phase, report.node, report.position) == (Phase.VALUE, node, (1,))
    assert report.example == (123 if source == "x" else None)
    assert np.isnan(result.loss)


def test_a_gradient_that_overflows_is_reported_at_the_product() -> None:
    builder = Builder()
    w, x = builder.parameter("w", (2,)), builder.input("x", (2,), per_example=True)
    product = builder.op("mul", w, x)
    builder.op("mul", builder.op("sum", product), builder.constant(1e200))
    rows = np.ones((5, 2))
    rows[3, 1] = 1e200
    report = evaluate(builder.program(), {"w": np.zeros(2), "x": rows}).non_finite
    assert report is not None
    assert (report.phase, report.node, report.example, report.position) == (Phase.GRADIENT, product, 3, (1,))


# Of the same elements with strides: every other one, a column of a matrix.
STRIDED: dict[str, tuple[tuple[int, ...], Any]] = {
    "every other": ((6,), lambda b, x: b.op("take", x, b.constant(np.array([0, 2, 4])))),
    "column": ((3, 2), lambda b, x: b.op("take", b.op("transpose", x, axes=(1, 0)), b.constant(np.array(1)))),
}
PICKED = {"every other": lambda x: x[:, ::2], "column": lambda x: x[:, :, 1]}


@pytest.mark.parametrize("rows", [None, 2])
@pytest.mark.parametrize("how", STRIDED)
@pytest.mark.parametrize("reduction", [Reduction.MEAN, Reduction.NONE])
def test_gradients_of_strided_vectors_of_examples_fall_where_they_belong(
    how: str, rows: int | None, reduction: Reduction
) -> None:
    shape, pick = STRIDED[how]
    builder, random = Builder(), np.random.default_rng(0)
    w = builder.parameter("w", (3,) if rows is None else (rows, 3))
    product = builder.op("matmul", w, pick(builder, builder.input("x", shape, per_example=True)))
    builder.op("sum", builder.op("tanh", product))
    arrays = {"w": random.normal(size=(3,) if rows is None else (rows, 3)), "x": random.normal(size=(5, *shape))}
    result = evaluate(builder.program(), arrays, wrt=("w", "x"), reduction=reduction)
    tensors = {name: torch.tensor(array, requires_grad=True) for name, array in arrays.items()}
    losses = torch.tanh(PICKED[how](tensors["x"]) @ tensors["w"].reshape(-1, 3).T).sum(1)
    own_w, own_x = (own.numpy() for own in torch.autograd.grad(losses.sum(), [tensors["w"], tensors["x"]]))
    if reduction is Reduction.NONE:
        np.testing.assert_allclose(result.gradients["w"].sum(0), own_w, rtol=1e-12)
        np.testing.assert_allclose(result.gradients["x"], own_x, rtol=1e-12)
    else:
        np.testing.assert_allclose(result.gradients["w"], own_w / 5, rtol=1e-12)
        np.testing.assert_allclose(result.gradients["x"], own_x / 5, rtol=1e-12)


def test_the_gradient_of_a_slice_that_stacks_share_is_their_sum() -> None:
    builder, random = Builder(), np.random.default_rng(0)
    p, b = builder.parameter("p", (2, 3, 2)), builder.input("b", (5, 3, 4))
    matrix = builder.op("take", builder.op("transpose", p, axes=(2, 0, 1)), builder.constant(np.array(0)))
    builder.op("sum", builder.op("matmul", matrix, b))
    arrays = {"p": random.normal(size=(2, 3, 2)), "b": random.normal(size=(5, 3, 4))}
    gradient = evaluate(builder.program(), arrays).gradients["p"]
    expected = np.zeros((2, 3, 2))
    expected[:, :, 0] = arrays["b"].sum((0, 2))
    np.testing.assert_allclose(gradient, expected, rtol=1e-12)


@pytest.mark.parametrize("inputs", [40, 200])
@pytest.mark.parametrize("bad", [np.inf, np.nan])
def test_examples_without_a_gradient_leave_no_trace_in_that_of_a_weight(bad: float, inputs: int) -> None:
    builder, random = Builder(), np.random.default_rng(0)
    w, x = builder.parameter("w", (90, inputs)), builder.input("x", (inputs,), per_example=True)
    builder.op("sum", builder.op("mul", builder.op("matmul", w, x), builder.input("z", per_example=True)))
    arrays = {"w": random.normal(size=(90, inputs)), "x": random.normal(size=(300, inputs)), "z": np.ones(300)}
    arrays["z"][[7, 120]], arrays["x"][[7, 120], 3] = 0, bad
    result = evaluate(builder.program(), arrays)
    assert result.non_finite is not None
    assert result.non_finite.example == 7
    sound = np.setdiff1d(np.arange(300), [7, 120])
    expected = np.broadcast_to(arrays["x"][sound].sum(0) / 300, (90, inputs))
    np.testing.assert_allclose(result.gradients["w"], expected, rtol=1e-10, atol=1e-12)
