"""Losses as functions of JAX."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import gradwire as gw
import gradwire.jax


def loss(params: Any, x: Any, y: Any) -> gw.Expression:
    score = gw.dot(params["w"], x) + params["b"]
    return gw.add(gw.softplus(-score * y), 0.1 * gw.sum(params["w"] ** 2))


def by_jax(params: Any, x: Any, y: Any) -> Any:
    return jnp.mean(jax.nn.softplus(-(x @ params["w"] + params["b"]) * y)) + 0.1 * jnp.sum(params["w"] ** 2)


def arrays(dtype: str = "float32") -> tuple[Any, Any, Any]:
    random = np.random.default_rng(2)
    params = {"w": jnp.asarray(random.normal(size=3), dtype), "b": jnp.asarray(0.5, dtype)}
    x = jnp.asarray(random.normal(size=(5, 3)), dtype)
    return params, x, jnp.asarray(np.sign(random.normal(size=5)), dtype)


def close(found: Any, expected: Any, rtol: float = 1e-5) -> None:
    assert jax.tree.structure(found) == jax.tree.structure(expected)
    for one, other in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        assert one.dtype == other.dtype
        np.testing.assert_allclose(one, other, rtol=rtol, atol=1e-6)


@pytest.fixture
def function(client: gw.Client) -> Any:
    return gradwire.jax.function(client, loss, per_example=("x", "y"))


@pytest.mark.parametrize("wrap", [lambda f: f, jax.jit], ids=["plain", "jit"])
def test_value_and_gradients_are_those_of_jax(function: Any, wrap: Any) -> None:
    close(wrap(function)(*arrays()), by_jax(*arrays()))
    close(wrap(jax.value_and_grad(function))(*arrays()), jax.value_and_grad(by_jax)(*arrays()))
    everything = (0, 1, 2)
    close(wrap(jax.grad(function, everything))(*arrays()), jax.grad(by_jax, everything)(*arrays()))
    params, x, y = arrays()
    close(wrap(function)(params, x=x, y=y), by_jax(params, x, y))


def test_forward_mode_and_composition(function: Any) -> None:
    close(jax.jvp(function, arrays(), arrays()), jax.jvp(by_jax, arrays(), arrays()))
    params, x, y = arrays()

    def around(f: Any) -> Any:
        return jax.grad(lambda scale: jnp.tanh(f(jax.tree.map(lambda leaf: leaf * scale, params), x * scale, y)))(0.7)

    close(around(function), around(by_jax), rtol=1e-4)


def test_vmap(function: Any) -> None:
    params, x, y = arrays()
    axes = (None, 0, 0)
    for f in (lambda g: g, jax.grad):
        found, expected = (jax.vmap(f(g), axes)(params, x[:, None], y[:, None]) for g in (function, by_jax))
        close(found, expected)


def test_float64_where_jax_has_it(function: Any) -> None:
    with jax.enable_x64(True):
        close(jax.value_and_grad(function)(*arrays("float64")), jax.value_and_grad(by_jax)(*arrays("float64")), 1e-12)


def test_short_floats_come_back_as_they_went(function: Any) -> None:
    params, x, y = arrays("bfloat16")
    slope = jax.grad(function)(params, x, y)
    assert slope["w"].dtype == jnp.bfloat16


def test_an_expression_and_row_indices(client: gw.Client) -> None:
    table, rows = gw.parameter("table", shape=(3,)), gw.input("rows", per_example=True, dtype="int64")
    taken = gradwire.jax.function(client, gw.square(gw.take(table, rows)), reduction="sum")
    slope = jax.grad(lambda t: taken(table=t, rows=jnp.array([2, 0, 2])))(jnp.array([1.0, 2.0, 3.0]))
    np.testing.assert_array_equal(slope, [2, 0, 12])


@pytest.mark.usefixtures("double_precision")
@pytest.mark.parametrize("optimizer", [optax.adamw(0.1), optax.lbfgs(linesearch=None)], ids=["adamw", "lbfgs"])
def test_optax_trains_a_pytree_as_with_the_gradients_of_jax(client: gw.Client, optimizer: Any) -> None:
    params, x, y = arrays("float64")

    def trained(value_and_grad: Any) -> Any:
        trees, state = params, optimizer.init(params)
        for _ in range(10):
            _, gradients = value_and_grad(trees)
            updates, state = optimizer.update(gradients, state, trees)
            trees = optax.apply_updates(trees, updates)
        return trees

    ours = client.value_and_grad(loss, per_example=("x", "y"))
    found = trained(lambda trees: ours(trees, x=x, y=y))
    close(found, trained(jax.value_and_grad(lambda trees: by_jax(trees, x, y))), rtol=1e-10)
    assert by_jax(found, x, y) < by_jax(params, x, y)


def test_what_cannot_be_has_an_error_of_its_own(client: gw.Client, function: Any) -> None:
    for twice in (jax.hessian(function), jax.grad(lambda *args: jax.grad(function)(*args)["b"])):
        with pytest.raises(gw.UsageError, match="no gradients of its gradients"):
            twice(*arrays())
    params, x, y = arrays()
    for wrap in (lambda f: f, jax.jit):
        with pytest.raises(gw.InvalidGraphError, match=r"params\.w"):
            wrap(function)(params, x[:, :2], y)
    with pytest.raises(gw.InvalidRequestError, match="reduction="):
        gradwire.jax.function(client, loss, reduction="none")
    with pytest.raises(gw.InvalidRequestError, match="wrt= is not for a function of JAX"):
        gradwire.jax.function(client, loss, wrt="w")
    wrong = gradwire.jax.function(client, gw.parameter("w", shape=(2,)) @ np.ones(2))
    with pytest.raises(Exception, match='"w"'):
        wrong(w=jnp.ones(3))
