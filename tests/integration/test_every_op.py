"""Vector-Jacobian products, Jacobians and Hessian-vector products of every op, against JAX."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradwire as gw
from gradwire_server.engine.graph.ops import OPS

pytestmark = pytest.mark.usefixtures("double_precision")

RANDOM = np.random.default_rng(6)
X, Y = RANDOM.normal(size=(3, 4)), RANDOM.normal(size=(3, 4))
P, M = RANDOM.random((3, 4)) + 0.5, RANDOM.normal(size=(4, 2))
ROWS = np.array([2, 0, 2, -1])


def scattered(x: Any) -> Any:
    return jnp.zeros((5, 4)).at[jnp.array([1, 1, 4])].add(x)


Case = tuple[Callable[..., Any], Callable[..., Any], tuple[Any, ...]]
CASES: dict[str, Case] = {
    "add": (lambda x, y: gw.add(x, y, x), lambda x, y: 2 * x + y, (X, Y[0])),
    "mul": (lambda x, y: gw.mul(x, y, x), lambda x, y: x * y * x, (X, Y[0])),
    "max": (lambda x, y: gw.maximum(x, y, 0.1), lambda x, y: jnp.maximum(jnp.maximum(x, y), 0.1), (X, Y)),
    "sigmoid": (gw.sigmoid, jax.nn.sigmoid, (X,)),
    "exp": (gw.exp, jnp.exp, (X,)),
    "log": (gw.log, jnp.log, (P,)),
    "tanh": (gw.tanh, jnp.tanh, (X,)),
    "softplus": (gw.softplus, jax.nn.softplus, (X,)),
    "power": (lambda x: gw.power(x, -1.5), lambda x: x**-1.5, (P,)),
    "sin": (gw.sin, jnp.sin, (X,)),
    "cos": (gw.cos, jnp.cos, (X,)),
    "log1p": (gw.log1p, jnp.log1p, (P,)),
    "expm1": (gw.expm1, jnp.expm1, (X,)),
    "erf": (gw.erf, jax.scipy.special.erf, (X,)),
    "less": (lambda x, y: gw.less(x, y) * x, lambda x, y: (x < y) * x, (X, Y)),
    "equal": (lambda x, y: gw.equal(x, y) * x, lambda x, y: (x == y) * x, (X, np.where(Y > 0, X, Y))),
    "select": (lambda x, y: gw.where(Y > 0, x, y**2), lambda x, y: jnp.where(Y > 0, x, y**2), (X, Y)),
    "sum": (lambda x: gw.sum(x, 1, keepdims=True), lambda x: x.sum(1, keepdims=True), (X,)),
    "reduce_max": (lambda x: gw.max(x, 0), lambda x: x.max(0), (X,)),
    "logsumexp": (lambda x: gw.logsumexp(x, 1), lambda x: jax.nn.logsumexp(x, 1), (X,)),
    "matmul": (gw.matmul, jnp.matmul, (X, M)),
    "reshape": (lambda x: gw.reshape(x, (2, 6)), lambda x: x.reshape(2, 6), (X,)),
    "transpose": (gw.transpose, jnp.transpose, (X,)),
    "take": (lambda x: gw.take(x, ROWS), lambda x: x[ROWS], (X,)),
    "scatter_add": (lambda x: gw.scatter_add(x, [1, 1, 4], 5), scattered, (X,)),
    "concatenate": (lambda x, y: gw.concatenate([x, y, x], 1), lambda x, y: jnp.concatenate([x, y, x], 1), (X, Y)),
    "slice": (lambda x: x[::-2, 1:3], lambda x: x[::-2, 1:3], (X,)),
    "stop_gradient": (
        lambda x, y: x * gw.stop_gradient(x * y) + y * y,
        lambda x, y: x * jax.lax.stop_gradient(x * y) + y * y,
        (X, Y),
    ),
    "cumsum": (lambda x: gw.cumsum(x, 1), lambda x: jnp.cumsum(x, 1), (X,)),
}  # fmt: skip


def test_every_op_has_a_case_that_has_it() -> None:
    assert set(CASES) == set(OPS)
    for op, (ours, _, arrays) in CASES.items():
        nodes = gw.graph(gw.sum(ours(*(gw.parameter(f"p{i}", own.shape) for i, own in enumerate(arrays))))).nodes
        kinds = {node.WhichOneof("kind") for node in nodes}
        assert op in kinds or "scalars" in kinds, op


@pytest.mark.parametrize("op", CASES)
def test_its_derivatives_are_those_of_jax(op: str) -> None:
    ours, theirs, arrays = CASES[op]
    places = tuple(range(len(arrays)))
    nodes = [gw.parameter(f"p{place}", array.shape) for place, array in enumerate(arrays)]
    named = {f"p{place}": array for place, array in enumerate(arrays)}
    directions = [np.cos(np.arange(array.size)).reshape(array.shape) for array in arrays]
    out = ours(*nodes)
    u, weights = np.sin(np.arange(out.size)).reshape(out.shape), np.linspace(1, 2, out.size).reshape(out.shape)

    def loss(*own: Any) -> Any:
        return jnp.sum(weights * theirs(*own) ** 2)

    def expected(*own: Any) -> Any:
        value, pull = jax.vjp(theirs, *own)
        product = jax.jvp(jax.grad(loss, places), own, tuple(map(jnp.asarray, directions)))[1]
        return value, pull(u), jax.jacrev(theirs, places)(*own), product

    value, pulled, jacobian, product = jax.jit(expected)(*map(jnp.asarray, arrays))
    with gw.connect("local") as client:
        found, slopes = client.vjp(out)(u, **named)
        blocks = client.jacobian(out)(**named)
        along = client.hvp(gw.sum(weights * out**2))(dict(zip(named, directions, strict=True)), **named)
    np.testing.assert_allclose(found, value, rtol=1e-13)
    for theirs_, mine in ((pulled, slopes), (jacobian, blocks), (product, along)):
        for name, slope in zip(named, theirs_, strict=True):
            np.testing.assert_allclose(mine.get(name, 0), slope, rtol=1e-10, atol=1e-12)
