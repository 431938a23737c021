"""``gw.from_jax``: value and gradient are those of JAX, and what cannot be imported is listed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradwire as gw
from tests.unit.sdk.jax_functions import FUNCTIONS, M, V

pytestmark = pytest.mark.usefixtures("double_precision")


@pytest.fixture(scope="module")
def client() -> Iterator[gw.Client]:
    with gw.connect("local") as client:
        yield client


def weighted(results: Any, xp: Any) -> Any:
    """A scalar to which every element of a result matters differently."""
    leaves = jax.tree.leaves(results, is_leaf=lambda leaf: isinstance(leaf, gw.Expression))
    return sum(xp.sum(leaf * np.cos(np.arange(np.prod(leaf.shape))).reshape(leaf.shape)) for leaf in leaves)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_value_and_gradient_are_those_of_jax(client: gw.Client, name: str) -> None:
    function, arguments = FUNCTIONS[name]
    results = gw.from_jax(function, *arguments)
    sources = [f"a{place}" for place in range(len(arguments))]
    made = [gw.parameter(source, argument.shape) for source, argument in zip(sources, arguments, strict=True)]
    loss = weighted(gw.from_jax(function)(*made), gw)
    value, slopes = client.value_and_grad(loss, ties="split")(dict(zip(sources, arguments, strict=True)))
    everything = tuple(range(len(arguments)))
    given = tuple(map(jnp.asarray, arguments))
    expected, gradients = jax.jit(jax.value_and_grad(lambda *own: weighted(function(*own), jnp), everything))(*given)
    np.testing.assert_allclose(value, expected, rtol=1e-12, atol=1e-13)
    for source, gradient in zip(sources, gradients, strict=True):
        np.testing.assert_allclose(slopes.get(source, 0), gradient, rtol=1e-11, atol=1e-13)
    shapes = jax.tree.map(lambda leaf: leaf.shape, jax.eval_shape(function, *given))
    assert jax.tree.map(lambda node: node.shape, results, is_leaf=lambda x: isinstance(x, gw.Expression)) == shapes


def network(params: Any, x: Any, label: Any) -> Any:
    hidden = jax.nn.relu(params["hidden"]["w"] @ x + params["hidden"]["b"])
    scores = params["out"] @ hidden
    return jax.nn.logsumexp(scores) - scores[label]


def arrays() -> tuple[Any, Any, Any]:
    random = np.random.default_rng(3)
    params = {
        "hidden": {"w": random.normal(size=(6, 4)), "b": random.normal(size=6)},
        "out": random.normal(size=(3, 6)),
    }
    return params, random.normal(size=(7, 4)), random.integers(3, size=7)


def by_jax(params: Any, x: Any, label: Any) -> Any:
    return jax.value_and_grad(lambda p: jnp.mean(jax.vmap(network, (None, 0, 0))(p, x, label)))(params)


def test_as_a_function_it_is_traced_like_any_other(client: gw.Client) -> None:
    params, x, label = arrays()
    step = client.value_and_grad(gw.from_jax(network), per_example=("x", "label"))
    found, expected = step(params, x=x, label=label), by_jax(params, x, label)
    jax.tree.map(lambda one, other: np.testing.assert_allclose(one, other, rtol=1e-12), found, expected)


def test_with_arguments_it_makes_the_sources_too(client: gw.Client) -> None:
    params, x, label = arrays()
    loss = gw.from_jax(network, params, x[0], label[0])
    flat = {"params.hidden.w": params["hidden"]["w"], "params.hidden.b": params["hidden"]["b"]}
    value, slopes = client.value_and_grad(loss)({**flat, "params.out": params["out"]}, x=x, label=label)
    expected, gradients = by_jax(params, x, label)
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(slopes["params.hidden.w"], gradients["hidden"]["w"], rtol=1e-12)


def test_row_indices_in_all_the_ways_that_jax_writes_them(client: gw.Client) -> None:
    def picked(table: Any, i: Any, rows: Any) -> Any:
        one_hot = jnp.sum(jax.nn.one_hot(i, 3) * table[:, 0])
        along = jnp.take_along_axis(table[:, 1], rows, 0).sum() + jnp.take_along_axis(table, rows[:, None], 1).sum()
        return one_hot + along + jnp.sum(table[rows] ** 2) + table[i, 2] + jnp.sum(table[:, rows] ** 3)

    i, rows = np.array([2, 0]), np.array([[0, 1, 1], [2, -1, 0]])
    loss = gw.from_jax(picked, M, i[0], rows[0])
    value, slopes = client.value_and_grad(loss)(table=M, i=i, rows=rows)
    every = jax.vmap(picked, (None, 0, 0))
    expected, gradient = jax.value_and_grad(lambda m: jnp.mean(every(m, i, rows)))(jnp.asarray(M))
    np.testing.assert_allclose(value, expected, rtol=1e-12)
    np.testing.assert_allclose(slopes["table"], gradient, rtol=1e-12)


def test_it_composes_with_expressions(client: gw.Client) -> None:
    w = gw.parameter("w", (5,))
    loss = gw.sum(gw.from_jax(jnp.sin)(w * w)) + gw.from_jax(jnp.dot)(w, np.ones(5))
    value, slopes = client.value_and_grad(loss)(w=V)
    np.testing.assert_allclose(value, np.sum(np.sin(V * V)) + V.sum(), rtol=1e-12)
    np.testing.assert_allclose(slopes["w"], 2 * V * np.cos(V * V) + 1, rtol=1e-12)


def test_what_is_missing_is_listed_whole() -> None:
    def function(x: Any) -> Any:
        scale = jax.lax.while_loop(lambda s: jnp.sum(s) < 3, lambda s: s * 2, x)
        return jnp.sort(x)[0] + jnp.floor(x).sum() + jnp.floor(scale).sum() + jax.scipy.special.gammaln(x).sum() + x[0]

    with pytest.raises(gw.InvalidGraphError) as caught:
        gw.from_jax(function, V)
    for part in ("function function", "floor x 2", "lgamma x 1", "sort x 1", "while (whose number of rounds"):
        assert part in str(caught.value)


@jax.custom_vjp  # type: ignore[untyped-decorator]  # JAX's
def rounded(x: Any) -> Any:
    return x * 1.0


rounded.defvjp(lambda x: (x, None), lambda _, slope: (slope * 0.5,))


def test_a_while_loop_is_unrolled(client: gw.Client) -> None:
    def cubed(x: Any) -> Any:
        return jax.lax.while_loop(lambda s: s[0] < 3, lambda s: (s[0] + 1, s[1] * x), (0, jnp.ones(5)))[1].sum()

    value, slopes = client.value_and_grad(gw.from_jax(cubed, V))(x=V)
    np.testing.assert_allclose(value, np.sum(V**3), rtol=1e-14)
    np.testing.assert_allclose(slopes["x"], 3 * V**2, rtol=1e-14)


@pytest.mark.parametrize(
    ("function", "part"),
    [
        (lambda x: x[jnp.argmax(x)], "argmax"),
        (lambda x: jnp.linalg.cholesky(jnp.outer(x, x)), "cholesky"),
        (rounded, "a derivative of its own"),
        (lambda x: jax.lax.convert_element_type(x, int), "convert_element_type (from float64 to int64)"),
        (lambda x: jnp.fft.fft(x).real, "fft"),
    ],
    ids=[
        "argmax",
        "cholesky",
        "custom_vjp",
        "integers",
        "fft",
    ],
)
def test_what_has_no_expression_is_refused_by_name(function: Any, part: str) -> None:
    with pytest.raises(gw.InvalidGraphError) as caught:
        gw.from_jax(function, V)
    assert part in str(caught.value)


TABLE, PLACES = np.arange(1.0, 6.0) ** 1.5, (-1, 0, 4)
OUTSIDE = (-100, -6, -1, 0, 2, 3, 9)


@pytest.mark.parametrize(
    ("function", "places"),
    [
        (lambda t, i: t[i], PLACES),
        (lambda t, i: jnp.take(t * 2, i), PLACES),
        (lambda t, i: t.at[i].get(mode="clip"), PLACES),
        (lambda t, i: jax.lax.dynamic_slice(t, (i,), (1,))[0], PLACES),
        (lambda t, i: t.at[i].add(t[0] ** 2).sum() * t[1], PLACES),
        # No row: of numbers that are compared each is one, also outside.
        (lambda t, i: jax.nn.one_hot(i, 3) @ t[:3], OUTSIDE),
        (lambda t, i: jnp.where(i < 0, t[0], t[1] ** 2), OUTSIDE),
        (lambda t, i: jnp.where(i == -100, 0.0, t[0]) * jnp.where(i >= 2, t[1], 1.0), OUTSIDE),
        (lambda t, i: t[0] * i + (t[1] * (i != 0)), OUTSIDE),
        (lambda t, i: t[0] * (3 - i**2) + t[1] * jnp.maximum(abs(2 * i) - i, i + 7), OUTSIDE),
        (lambda t, i: jax.nn.one_hot(2 * i - 1, 3) @ t[:3] + t[1] * -i, OUTSIDE),
    ],
    ids=["row", "take", "clipped", "slice", "add", "one_hot", "negative", "masked", "number", "computed", "class"],
)
def test_integers_that_calls_bring_are_what_they_are_in_jax(
    client: gw.Client, function: Any, places: tuple[int, ...]
) -> None:
    loss = gw.from_jax(function, TABLE, np.int64(0))
    value, slopes = client.value_and_grad(loss, reduction="none")(t=TABLE, i=np.array(places))
    each = jax.vmap(jax.value_and_grad(function), (None, 0))
    expected, theirs = each(jnp.asarray(TABLE), np.array(places))
    np.testing.assert_allclose(value, expected, rtol=1e-14)
    np.testing.assert_allclose(slopes.get("t", 0), theirs, rtol=1e-14)


@pytest.mark.parametrize(
    "function",
    [
        lambda t, i: jnp.take(t, i, mode="clip"),
        lambda t, i: jnp.take(t, i, mode="wrap"),
        lambda t, i: jnp.take(t, i + 1, mode="clip"),
        lambda t, i: t[i + 1],
        lambda t, i: t.at[i].get(mode="clip", wrap_negative_indices=False),
        lambda t, i: t[jnp.where(i < 0, 0, i)],
        lambda t, i: t[2 * i],
    ],
    ids=["clipped", "wrapped", "next, clipped", "next", "as they are", "chosen", "twice"],
)
def test_integers_that_no_row_has_are_refused_by_name(function: Any) -> None:
    with pytest.raises(gw.InvalidGraphError, match=r"row indices|rem|computed from arguments"):
        gw.from_jax(function, TABLE, np.int64(0))


def test_a_row_outside_is_an_error_of_the_call(client: gw.Client) -> None:
    step = client.value_and_grad(gw.from_jax(lambda t, i: t[i]), per_example=("i",))
    for place in (-6, 5):
        with pytest.raises(gw.InvalidRequestError, match=f"index {place} .* is out of range for 5 rows"):
            step(TABLE, i=np.array([0, place]))


@pytest.mark.parametrize("rows", [2, np.int32(2), np.array([0, 3, 4]), np.array([1, 1], "u1"), np.zeros(0, int)])
def test_integers_of_a_first_call_are_traced_as_integers(client: gw.Client, rows: Any) -> None:
    def loss(table: Any, i: Any) -> Any:
        assert jnp.issubdtype(i.dtype, jnp.integer)
        return jnp.sum(table[i] ** 2) + jnp.sum(jax.nn.one_hot(i, 5) @ table)

    table = np.arange(15.0).reshape(5, 3) ** 1.5
    expected, slopes = jax.value_and_grad(loss)(jnp.asarray(table), jnp.asarray(rows))
    for given, named in (((table, rows), {}), ((table,), {"i": rows})):
        value, grads = client.value_and_grad(gw.from_jax(loss))(*given, **named)
        np.testing.assert_allclose(value, expected, rtol=1e-14)
        np.testing.assert_allclose(grads, slopes, rtol=1e-14)


def test_integers_to_differentiate_in_are_refused_with_what_to_do(client: gw.Client) -> None:
    step = client.value_and_grad(gw.from_jax(lambda t, i: t[i]))
    with pytest.raises(gw.InvalidGraphError, match=r"integer .*float64.*inputs="):
        step(t=TABLE, i=2)
    value, grads = client.value_and_grad(gw.from_jax(lambda t, i: t[i]), inputs="i")(t=TABLE, i=2)
    assert value == TABLE[2]
    np.testing.assert_array_equal(grads["t"], [0, 0, 1, 0, 0])


def test_integers_that_are_numbers_alone_stay_integers(client: gw.Client) -> None:
    def loss(t: Any, label: Any) -> Any:
        assert jnp.issubdtype(label.dtype, jnp.integer)
        return jax.nn.one_hot(label, 5) @ t**2

    step = client.value_and_grad(gw.from_jax(loss), per_example="label")
    for labels in (np.array([0, 3, -1]), np.array([4])):
        mean = jax.value_and_grad(lambda t, own=labels: jnp.mean(jax.vmap(loss, (None, 0))(t, own)))
        expected, slopes = mean(jnp.asarray(TABLE))
        value, grads = step(TABLE, label=labels)
        np.testing.assert_allclose(value, expected, rtol=1e-14)
        np.testing.assert_allclose(grads, slopes, rtol=1e-14)
