"""``stop_gradient``: the value bit for bit, and no gradient, whoever else reads the same storage."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from gradwire_server.engine.graph.graph import Reduction, Ties
from tests.unit.engine.building import Builder, evaluate

pytestmark = pytest.mark.usefixtures("double_precision")

INF, NAN = np.inf, np.nan


def element_row(builder: Builder, node: int) -> int:
    """The first entry of a vector, as a vector."""
    return builder.op("slice", node, starts=(0,), sizes=(1,))


@pytest.mark.parametrize("ties", list(Ties))
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(), (5,)])
@pytest.mark.parametrize("per_example", [False, True])
def test_the_value_is_the_operand_bit_for_bit_and_the_gradient_is_zero(
    shape: tuple[int, ...], dtype: type, ties: Ties, *, per_example: bool
) -> None:
    numbers: Any = np.array([-0.0, 1.5, INF, -INF, NAN], dtype)
    builder = Builder()
    x = builder.input("x", shape, per_example=per_example)
    held = builder.op("stop_gradient", x)
    builder.op("sum", builder.op("mul", builder.op("exp", held), builder.op("exp", x)))
    program = builder.program(ties=ties)
    rows = [numbers] if shape else list(numbers)
    for row in rows:
        given = np.asarray(row)[None] if per_example else np.asarray(row)
        result = evaluate(program, {"x": given}, dtype, wrt=("x",), outputs=(held,), reduction=Reduction.SUM)
        assert result.outputs[held].tobytes() == given.tobytes()
        # That of the one factor that is not held.
        with np.errstate(all="ignore"):
            expected = np.exp(given) * np.exp(given)
        np.testing.assert_allclose(result.gradients["x"], expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [NAN, INF])
def test_nothing_goes_back_through_it_whatever_the_gradient_and_the_value_are(bad: float) -> None:
    builder = Builder()
    x, w = builder.parameter("x", (2,)), builder.parameter("w", (2,))
    held = builder.op("stop_gradient", builder.op("log", x))
    builder.op("sum", builder.op("mul", held, w))
    result = evaluate(builder.program(), {"x": [0.0, -1.0], "w": [bad, bad]})
    np.testing.assert_array_equal(result.gradients["x"], [0.0, 0.0])
    np.testing.assert_array_equal(result.gradients["w"], [-INF, NAN])


@pytest.mark.parametrize("examples", [1, 3, 700])
@pytest.mark.parametrize("reduction", list(Reduction))
def test_one_storage_serves_both_with_the_gradient_of_one(reduction: Reduction, examples: int) -> None:
    # Every reader that could add to the gradient of a view: elements, parts, products, sums and choices.
    builder = Builder()
    w, x = builder.parameter("w", (3, 3)), builder.input("x", (3,), per_example=True)
    inner = builder.op("tanh", builder.op("matmul", w, x))
    held = builder.op("stop_gradient", inner)
    element = builder.op("take", held, builder.constant(np.array(1)))
    parts = [
        builder.op("mul", held, inner, inner),
        builder.op("matmul", builder.op("stop_gradient", w), inner),
        builder.op("concatenate", builder.op("slice", held, starts=(1,), sizes=(2,)), element_row(builder, inner)),
        builder.op("select", held, held, inner),
        builder.op("mul", inner, builder.op("mul", element, element)),
        builder.op("max", held, builder.op("mul", inner, builder.constant(2.0))),
    ]
    builder.op("sum", builder.op("sin", builder.op("add", *parts)))
    random = np.random.default_rng(0)
    arrays = {"w": random.normal(size=(3, 3)), "x": random.normal(size=(examples, 3))}
    result = evaluate(builder.program(), arrays, wrt=("w", "x"), reduction=reduction)

    def loss(w: Any, x: Any) -> Any:
        inner = jnp.tanh(w @ x)
        held = jax.lax.stop_gradient(inner)
        total = held * inner * inner + jax.lax.stop_gradient(w) @ inner
        total += jnp.concatenate([held[1:], inner[:1]]) + jnp.where(held != 0, held, inner)
        return jnp.sin(total + inner * held[1] ** 2 + jnp.maximum(held, 2 * inner)).sum()

    slopes = jax.jit(jax.vmap(jax.grad(loss, (0, 1)), (None, 0)))(*map(jnp.asarray, arrays.values()))
    scale = 1 / examples if reduction is Reduction.MEAN else 1
    of_w = slopes[0] if reduction is Reduction.NONE else slopes[0].sum(0)
    np.testing.assert_allclose(result.gradients["w"], of_w * scale, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(result.gradients["x"], slopes[1] * scale, rtol=1e-10, atol=1e-12)
