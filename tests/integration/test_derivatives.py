"""Vector-Jacobian products, Jacobians and Hessian-vector products, against JAX, on the engine and on a server alike."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradwire as gw
from tests.integration.server_process import ServerProcess

pytestmark = pytest.mark.usefixtures("double_precision")

RANDOM = np.random.default_rng(2)
W, B = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=3)
X = RANDOM.normal(size=(5, 4))
U = RANDOM.normal(size=(5, 3))


def layer(params: Any, x: Any) -> Any:
    """What JAX and we take alike."""
    return np.tanh(params["w"] @ x + params["b"]) * params["w"][:, 0]


def jax_layer(params: Any, x: Any) -> Any:
    return jnp.tanh(params["w"] @ x + params["b"]) * params["w"][:, 0]


def loss(params: Any, x: Any) -> Any:
    return (layer(params, x) ** 2).sum() + np.sin(params["b"]).sum()


def jax_loss(params: Any, x: Any) -> Any:
    return (jax_layer(params, x) ** 2).sum() + jnp.sin(params["b"]).sum()


def expression() -> gw.Expression:
    params = {"w": gw.parameter("w", (3, 4)), "b": gw.parameter("b", 3)}
    out: gw.Expression = layer(params, gw.input("x", 4, per_example=True))
    return out


PARAMS: dict[str, Any] = {"w": W, "b": B}
VECTOR: dict[str, Any] = {"w": RANDOM.normal(size=(3, 4)), "b": RANDOM.normal(size=3)}


def near(found: Any, expected: Any) -> None:
    assert sorted(found) == sorted(expected)
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-10, atol=1e-12)


class TestVectorJacobianProducts:
    def test_of_an_expression(self, client: gw.Client) -> None:
        value, gradients = client.vjp(expression())(U, x=X, **PARAMS)
        expected, pull = jax.vjp(lambda params: jax.vmap(lambda x: jax_layer(params, x))(X), PARAMS)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        near(gradients, pull(jnp.asarray(U))[0])

    def test_of_a_function(self, client: gw.Client) -> None:
        value, gradients = client.vjp(layer, per_example="x")(U, PARAMS, x=X)
        again, by_name = client.vjp(expression())(U, x=X, **PARAMS)
        np.testing.assert_array_equal(value, again)
        near(gradients, by_name)

    def test_of_one_example_and_in_chosen_sources(self, client: gw.Client) -> None:
        value, gradients = client.vjp(layer)(U[0], PARAMS, x=X[0])
        expected, pull = jax.vjp(lambda params: jax_layer(params, X[0]), PARAMS)
        np.testing.assert_allclose(value, expected, rtol=1e-12)
        near(gradients, pull(jnp.asarray(U[0]))[0])
        _, alone = client.vjp(expression(), wrt="b", reduction="none")(U, x=X, **PARAMS)
        assert {name: array.shape for name, array in alone.items()} == {"b": (5, 3)}

    def test_a_name_that_is_taken_and_a_value_that_has_one(self, client: gw.Client) -> None:
        cotangent = gw.parameter("cotangent", 2)
        value, gradients = client.vjp((cotangent**2).named("square"))([1.0, 10.0], cotangent=[3.0, 4.0])
        assert (value.tolist(), gradients["cotangent"].tolist()) == ([9, 16], [6, 80])


class TestJacobians:
    def test_of_an_expression(self, client: gw.Client) -> None:
        found = client.jacobian(expression())(x=X, **PARAMS)
        expected = jax.vmap(lambda x: jax.jacrev(jax_layer)(PARAMS, x))(jnp.asarray(X))
        assert {name: array.shape for name, array in found.items()} == {"w": (5, 3, 3, 4), "b": (5, 3, 3)}
        near(found, expected)

    def test_of_a_function(self, client: gw.Client) -> None:
        jacobian = client.jacobian(layer, per_example="x")
        near(jacobian(PARAMS, x=X), client.jacobian(expression())(x=X, **PARAMS))
        # Another number of examples, and other shapes, of the same function.
        near(jacobian(PARAMS, x=X[:2]), client.jacobian(expression())(x=X[:2], **PARAMS))
        smaller = {"w": W[:2], "b": B[:2]}
        near(jacobian(smaller, x=X), jax.vmap(lambda x: jax.jacrev(jax_layer)(smaller, x))(jnp.asarray(X)))
        near(jacobian(PARAMS, x=X), client.jacobian(expression())(x=X, **PARAMS))

    def test_without_examples_and_of_float32(self, client: gw.Client) -> None:
        params = {name: array.astype(np.float32) for name, array in PARAMS.items()}
        found = client.jacobian(layer)(params, x=X[0].astype(np.float32))
        assert found["w"].dtype == np.float32
        for name, array in jax.jacrev(jax_layer)(PARAMS, X[0]).items():
            np.testing.assert_allclose(found[name], array, rtol=1e-4, atol=1e-6)

    def test_of_a_scalar_a_matrix_and_nothing(self, client: gw.Client) -> None:
        w = gw.parameter("w", 3)
        given = np.array([1.0, 2.0, 3.0])
        np.testing.assert_array_equal(client.jacobian(gw.sum(w**2))(w=given)["w"], 2 * given)
        matrix = client.jacobian(gw.outer(w, w))(w=given)["w"]
        np.testing.assert_allclose(matrix, jax.jacrev(lambda w: jnp.outer(w, w))(given), rtol=1e-15)
        assert client.jacobian(w[:0])(w=given)["w"].shape == (0, 3)

    def test_of_a_scalar_in_scalars(self, client: gw.Client) -> None:
        assert client.jacobian(lambda w: 2 * w)(3.0) == 2
        found = client.jacobian(lambda own: own["a"] * gw.sum(own["b"]))({"a": 3.0, "b": np.array([1.0, 2.0])})
        assert found["a"].shape == ()
        assert found["a"] == 3
        np.testing.assert_array_equal(found["b"], [3, 3])

    def test_that_is_a_hessian(self, client: gw.Client) -> None:
        w = gw.parameter("w", 4)
        hessian = client.jacobian(gw.gradient(gw.sum(gw.exp(w) * w[::-1]), w))(w=X[0])["w"]
        expected = jax.hessian(lambda w: (jnp.exp(w) * w[::-1]).sum())(X[0])
        np.testing.assert_allclose(hessian, expected, rtol=1e-10, atol=1e-12)


class TestHessianVectorProducts:
    @staticmethod
    def expected(reduce: Callable[..., Any] = jnp.mean) -> Any:
        def total(params: Any) -> Any:
            return reduce(jax.vmap(lambda x: jax_loss(params, x))(jnp.asarray(X)))

        return jax.jvp(jax.grad(total), (PARAMS,), (VECTOR,))[1]

    def test_of_an_expression(self, client: gw.Client) -> None:
        params = {"w": gw.parameter("w", (3, 4)), "b": gw.parameter("b", 3)}
        node = loss(params, gw.input("x", 4, per_example=True))
        near(client.hvp(node)(VECTOR, x=X, **PARAMS), self.expected())
        near(client.hvp(node, reduction="sum")(VECTOR, x=X, **PARAMS), self.expected(jnp.sum))

    def test_of_a_function_in_a_pytree(self, client: gw.Client) -> None:
        near(client.hvp(loss, per_example="x")(VECTOR, PARAMS, x=X), self.expected())

    def test_of_a_function_of_keywords(self, client: gw.Client) -> None:
        def of_two(w: Any, b: Any, x: Any) -> Any:
            return loss({"w": w, "b": b}, x)

        near(client.hvp(of_two, per_example="x")(VECTOR, x=X, **PARAMS), self.expected())

    def test_ties(self, client: gw.Client) -> None:
        w = gw.parameter("w")
        for ties, product in (("zero", 0), ("split", 3)):
            found = client.hvp(gw.maximum(w, 2.0) ** 2 + gw.maximum(w, 2.0) * w, ties=ties)({"w": 2.0}, w=2.0)
            # The maximum's share s is 0 or 1/2: (2 s^2 + 2 s) times 2.
            assert found["w"] == product


def test_a_penalty_on_gradients_in_each_example(client: gw.Client) -> None:
    w, table = gw.parameter("w", (3, 4)), gw.parameter("table", (6, 4))
    row, x = gw.input("row", per_example=True, dtype="int64"), gw.input("x", 4, per_example=True)
    out = gw.sum(gw.softplus(w @ (x * gw.take(table, row)))[1:] ** 2)
    penalty = (gw.norm(gw.gradient(out, x)) - 1) ** 2
    rows = np.array([1, 5, 1, 0, -1])
    numbers: dict[str, Any] = {"w": W, "table": RANDOM.normal(size=(6, 4))}

    def theirs(params: Any) -> Any:
        def critic(x: Any, row: Any) -> Any:
            return (jax.nn.softplus(params["w"] @ (x * params["table"][row]))[1:] ** 2).sum()

        slopes = jax.vmap(jax.grad(critic))(jnp.asarray(X), jnp.asarray(rows))
        return ((jnp.linalg.norm(slopes, axis=1) - 1) ** 2).mean()

    value, gradients = client.value_and_grad(penalty)(row=rows, x=X, **numbers)
    expected, slopes = jax.value_and_grad(theirs)(numbers)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    near(gradients, slopes)


async def test_they_are_awaited_by_the_asyncio_client(server: ServerProcess) -> None:
    for target in ("local", server.address):
        async with gw.AsyncClient(target) as client:
            with gw.connect("local") as blocking:
                value, gradients = await client.vjp(layer, per_example="x")(U, PARAMS, x=X, timeout=60)
                np.testing.assert_array_equal(value, blocking.vjp(layer, per_example="x")(U, PARAMS, x=X)[0])
                assert sorted(gradients) == ["b", "w"]
                near(await client.jacobian(layer)(PARAMS, x=X[0]), blocking.jacobian(layer)(PARAMS, x=X[0]))
                near(await client.hvp(loss)(VECTOR, PARAMS, x=X[0]), blocking.hvp(loss)(VECTOR, PARAMS, x=X[0]))


WRONG: list[tuple[Callable[[gw.Client], Any], str]] = [
    (lambda client: client.vjp(5), "an expression or a function of arrays; found int"),  # type: ignore[arg-type]  # the mistake
    (lambda client: client.vjp(gw.graph(gw.parameter("w"))), "found Graph"),  # type: ignore[arg-type]  # as above
    (lambda client: client.vjp(expression())(x=X, **PARAMS), "takes the vector first"),
    (lambda client: client.vjp(expression())(U[:, :2], x=X, **PARAMS), "cotangent.*shape"),
    (lambda client: client.vjp(layer, has_aux=True), "has_aux"),
    (lambda client: client.jacobian(expression(), reduction="sum"), "no reduction"),
    (lambda client: client.hvp(gw.parameter("w") ** 2)(w=1.0), "takes the vector first"),
    (lambda client: client.hvp(gw.parameter("w") ** 2)(1.0, w=1.0), "mapping of arrays by name"),
    (lambda client: client.hvp(gw.parameter("w") ** 2)({"v": 1.0}, w=1.0), 'the vector has a surplus "v".*each of w'),
    (lambda client: client.hvp(gw.parameter("w") * gw.parameter("v"))({"v": 1.0}, w=1.0), 'the vector lacks "w"'),
    (lambda client: client.hvp(loss)({"w": W}, PARAMS, x=X[0]), "the vector is nested as .*; the first argument as"),
    (lambda client: client.hvp(lambda p: gw.sum(p**3))(np.ones((5, 3)), np.ones(3)), r"has shape \(5, 3\).*\(3,\)"),
    (lambda client: client.hvp(lambda p: p["a"][0] ** 3)({"a": [U]}, {"a": [1.0]}), r'"vector\.a\.0" has shape'),
    (lambda client: client.hvp(lambda **k: k["w"] ** 3)(1.0, w=1.0), "mapping of arrays by name; found float"),
    (lambda client: client.hvp(lambda w, **k: w * k["vector"])(1.0, 1.0, vector=1.0), '"vector" is a name'),
    (lambda client: client.vjp(lambda p: p * 2)(np.ones((5, 3)), np.ones(3)), r"the vector has shape \(5, 3\).*\(3,\)"),
    (
        lambda client: client.vjp(lambda p, x: p * x, per_example="x")(U[:3, 0], np.ones(3), x=np.ones((3, 3))),
        "the vector has",
    ),
    (lambda client: client.hvp(loss, wrt="params"), "in its first argument"),
]


@pytest.mark.parametrize(("ask", "words"), WRONG, ids=range(len(WRONG)))
def test_mistakes(client: gw.Client, ask: Callable[[gw.Client], Any], words: str) -> None:
    with pytest.raises(gw.InvalidRequestError, match=words):
        ask(client)
