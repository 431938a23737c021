"""Gradients as expressions: those of the engine, of any order, with JAX's numbers, and with the engine's rules."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradwire as gw
from gradwire._expressions.derivatives import RULES
from gradwire_server.engine.graph.ops import OPS
from tests.unit.sdk.referring import referred
from tests.unit.sdk.test_numpy import ARRAYS, LINES, on_engine

pytestmark = pytest.mark.usefixtures("double_precision")

RANDOM = np.random.default_rng(1)
INF, NAN = math.inf, math.nan


def test_every_op_has_a_rule() -> None:
    assert set(RULES) == set(OPS)


def traced(function: Callable[..., Any], names: Any) -> tuple[gw.Expression, list[gw.Expression], dict[str, Any]]:
    """A line as a scalar of the squares of its result, its parameters, and arrays for them."""
    parameters = [gw.parameter(name, ARRAYS[name].shape) for name in names]
    result = function(np, *parameters)
    return gw.sum(result**2 * weights(result.shape)), parameters, {name: ARRAYS[name] for name in names}


def weights(shape: tuple[int, ...]) -> Any:
    return np.linspace(1, 2, math.prod(shape)).reshape(shape)


@pytest.mark.parametrize("line", LINES)
def test_first_and_second_derivatives_are_those_of_jax(line: str) -> None:
    function = LINES[line]
    names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    loss, parameters, arrays = traced(function, names)
    vectors = [RANDOM.normal(size=parameter.shape) for parameter in parameters]
    first = gw.gradient(loss, parameters)
    along = gw.add(*(gw.sum(own * vector) for own, vector in zip(first, vectors, strict=True)), 0)
    second = gw.gradient(along, parameters)
    assert [own.shape for own in second] == [parameter.shape for parameter in parameters]
    answer = referred([along, *first, *second], arrays)

    def theirs(*own: Any) -> Any:
        result = function(jnp, *own)
        return (result**2 * weights(result.shape)).sum()

    given = tuple(map(jnp.asarray, arrays.values()))
    places = tuple(range(len(names)))
    gradient = jax.grad(theirs, places)

    def in_direction(*own: Any) -> Any:
        return sum((slope * vector).sum() for slope, vector in zip(gradient(*own), vectors, strict=True))

    expected = jax.jit(lambda *own: (*gradient(*own), *jax.grad(in_direction, places)(*own)))(*given)
    for value, other in zip(answer.values[1:], expected, strict=True):
        np.testing.assert_allclose(value, other, rtol=1e-10, atol=1e-10)
    ours = on_engine(along, arrays)
    for name, value in zip(names, answer.values[1 + len(names) :], strict=True):
        # Reference and engine differentiate what is differentiated already.
        np.testing.assert_allclose(answer.gradients.get(name, 0), value, rtol=1e-10, atol=1e-10)
        np.testing.assert_allclose(ours.get(name, 0), value, rtol=1e-10, atol=1e-10)


UNARY: dict[str, tuple[Callable[..., Any], Callable[[Any], Any]]] = {
    "sigmoid": (gw.sigmoid, jax.nn.sigmoid),
    "exp": (gw.exp, jnp.exp),
    "log": (gw.log, jnp.log),
    "tanh": (gw.tanh, jnp.tanh),
    "softplus": (gw.softplus, jax.nn.softplus),
    "sin": (gw.sin, jnp.sin),
    "cos": (gw.cos, jnp.cos),
    "log1p": (gw.log1p, jnp.log1p),
    "expm1": (gw.expm1, jnp.expm1),
    "erf": (gw.erf, jax.scipy.special.erf),
    "power 3": (lambda x: x**3, lambda x: x**3),
    "power -1": (lambda x: x**-1, lambda x: 1 / x),
    "power 0.5": (gw.sqrt, jnp.sqrt),
    "power -1.5": (lambda x: x**-1.5, lambda x: x**-1.5),
    "product": (lambda x: gw.mul(x, x, x, 2.0, x), lambda x: 2 * x**4),
    "logsumexp": (
        lambda x: gw.logsumexp(gw.stack([x, 2 * x, 0.3])),
        lambda x: jax.nn.logsumexp(jnp.stack([x, 2 * x, 0.3])),
    ),
}


@pytest.mark.parametrize("name", UNARY)
def test_fourth_derivatives(name: str) -> None:
    ours, theirs = UNARY[name]
    x = gw.parameter("x")
    nodes = [ours(x)]
    for _ in range(4):
        nodes.append(gw.gradient(nodes[-1], x))
    functions = [theirs]
    for _ in range(4):
        functions.append(jax.grad(functions[-1]))
    for at in (0.3, 0.7, 2.5):
        values = referred(nodes, {"x": at}).values
        np.testing.assert_allclose(values, [function(at) for function in functions], rtol=1e-10, atol=1e-12)


class TestRulesOfTheEngine:
    """The gradient as an expression is the engine's own, ties and zeros included."""

    X = np.array([1.0, 2.0, 2.0, -0.0, 0.0])

    @pytest.mark.parametrize("ties", ["zero", "split"])
    @pytest.mark.parametrize(
        "function",
        [
            gw.max,
            lambda x: gw.sum(gw.maximum(x, 2.0)),
            lambda x: gw.sum(gw.maximum(x, 2.0, x[::-1])),
            lambda x: gw.sum(gw.maximum(x, x)),
            lambda x: gw.sum(gw.relu(x)),
            lambda x: gw.sum(gw.abs(x)),
            lambda x: gw.sum(gw.max(gw.reshape(x[:4], (2, 2)), 0)),
        ],
        ids=range(7),
    )
    def test_ties(self, function: Any, ties: str) -> None:
        x = gw.parameter("x", 5)
        loss = function(x)
        theirs = referred([loss], {"x": self.X}, ties).gradients["x"]
        ours = referred([loss, gw.gradient(loss, x, ties=ties)], {"x": self.X}, ties).values[1]
        np.testing.assert_array_equal(ours, theirs)

    @pytest.mark.parametrize(
        ("function", "at"),
        [
            (lambda x: gw.maximum(gw.sqrt(gw.sum(x * x)), 1e-10), [0.0, 0.0]),
            (lambda x: gw.sqrt(gw.sum(x * x)) ** 2, [0.0, 0.0]),
            (lambda x: (x / np.array([0.0, 1.0]))[1], [1.0, 1.0]),
            (lambda x: gw.sum(gw.where(x > 0, gw.log(x), 0)), [0.0, 2.0]),
            (lambda x: gw.sum(gw.where(x > 0, gw.log1p(-x), 0)), [-2.0, 0.5]),
            (lambda x: gw.sum(gw.where(x < 1, gw.exp(x * x), x)), [1e3, 0.5]),
            (lambda x: gw.sum(gw.where(x != 0, x[::-1] / x, 1)), [0.0, 2.0]),
            (lambda x: gw.sum(gw.where(x > 0, gw.tanh(gw.log(x)), 0)), [-1.0, 2.0]),
            (gw.norm, [0.0, 0.0]),
            (gw.std, [2.0, 2.0]),
            (lambda x: gw.logsumexp(x + np.array([-INF, 0.0])), [1.0, 2.0]),
            (lambda x: gw.maximum(gw.logsumexp(x - INF), -1.0), [1.0, 2.0]),
            (lambda x: gw.sum(gw.softmax(x + np.array([-INF, -INF]))), [1.0, 2.0]),
        ],
        ids=range(13),
    )
    def test_a_gradient_of_zero_stops(self, function: Any, at: Any) -> None:
        x = gw.parameter("x", 2)
        loss = function(x)
        answer = referred([loss, gw.gradient(loss, x)], {"x": at})
        assert np.isfinite(answer.gradients["x"]).all()
        np.testing.assert_allclose(answer.values[1], answer.gradients["x"], rtol=1e-14)

    def test_where_the_gradient_is_0_but_not_its_derivative(self) -> None:
        x = gw.parameter("x")
        loss = gw.square(gw.exp(x) - 1) + gw.square(gw.log(x + 1))
        answer = referred([gw.gradient(loss, x), gw.gradient(gw.gradient(loss, x), x)], {"x": 0.0})
        assert [float(value) for value in answer.values] == [0, 4]
        assert answer.gradients["x"] == 4

    def test_factors_that_are_0(self) -> None:
        a, b, c = (gw.parameter(name) for name in "abc")
        values = referred([gw.constant(0.0), *gw.gradient(a * b * c, [a, b, c])], {"a": 0.0, "b": 3.0, "c": 0.0}).values
        assert [float(value) for value in values[1:]] == [0, 0, 0]


LOGITS = [[1, NAN, 2], [1, INF, 2], [1, -INF, 2], [INF, INF, 1], [NAN, NAN, NAN], [-INF, NAN, 0], [INF, -INF, 0]]
OF_LOGITS: dict[str, tuple[Callable[..., Any], Callable[..., Any]]] = {
    "logsumexp": (gw.logsumexp, jax.nn.logsumexp),
    "softmax": (lambda z: gw.softmax(z) @ np.arange(1.0, 4), lambda z: jax.nn.softmax(z) @ jnp.arange(1.0, 4)),
    "log_softmax": (
        lambda z: gw.log_softmax(z) @ np.arange(1.0, 4),
        lambda z: jax.nn.log_softmax(z) @ jnp.arange(1.0, 4),
    ),
    "cross-entropy": (
        lambda z: gw.softmax_cross_entropy_with_integer_labels(z, 2),
        lambda z: jax.nn.logsumexp(z) - z[2],
    ),
    "cross-entropy of probabilities": (
        lambda z: gw.softmax_cross_entropy(z, np.array([0.25, 0, 0.75])),
        lambda z: -(jnp.array([0.25, 0, 0.75]) * jax.nn.log_softmax(z)).sum(),
    ),
}


@pytest.mark.parametrize("function", OF_LOGITS)
def test_logits_that_are_not_finite_have_no_finite_gradient_where_jax_has_none(function: str) -> None:
    ours, theirs = OF_LOGITS[function]
    z = gw.parameter("z", 3)
    loss = ours(z)
    for logits in LOGITS:
        if function.endswith("probabilities") and -INF in logits:
            # A label of 0 where there is no chance is a term of 0, which JAX has NaN for.
            continue
        own, written = on_engine(loss, {"z": logits})["z"], referred([loss, gw.gradient(loss, z)], {"z": logits})
        expected = jax.grad(theirs)(jnp.asarray(logits, float))
        assert np.isnan(own[np.isnan(expected)]).all()
        np.testing.assert_allclose(written.values[1], own, rtol=1e-14)


ENDS: dict[str, tuple[Callable[..., Any], float, float, float]] = {
    "sqrt": (np.sqrt, 0, INF, -INF),
    "log": (np.log, 0, INF, -INF),
    "cbrt": (np.cbrt, 0, INF, -INF),
    "x ** 1.5": (lambda x: x**1.5, 0, 0, INF),
    "x ** 2.5": (lambda x: x**2.5, 0, 0, 0),
    "x ** 3": (lambda x: x**3, 0, 0, 0),
    "abs": (np.abs, 0, 0, 0),
    "norm": (lambda x: np.linalg.norm(x * np.ones(2)), 0, 0, 0),
    "arcsin": (np.arcsin, 1, INF, INF),
    "arcsin of -1": (np.arcsin, -1, INF, -INF),
    "arccos": (np.arccos, 1, -INF, -INF),
    "arccos of -1": (np.arccos, -1, -INF, INF),
    "arccosh": (np.arccosh, 1, INF, -INF),
    "arctanh": (np.arctanh, 1, INF, INF),
}


@pytest.mark.parametrize("name", ENDS)
def test_first_and_second_derivatives_at_the_ends_of_domains(name: str) -> None:
    function, at, first, second = ENDS[name]
    x = gw.parameter("x")
    slope = gw.gradient(function(x), x)
    values = referred([slope * 1.0, gw.gradient(slope, x) * 1.0], {"x": at}).values
    np.testing.assert_array_equal(values, [first, second])


def test_what_wrt_may_be() -> None:
    x, y = gw.parameter("x", 2), gw.parameter("y")
    inside = x * y
    loss = gw.sum(inside**2)
    arrays = {"x": [1.0, 2.0], "y": 3.0}
    named = gw.gradient(loss, {"x": x, "inside": inside, "other": gw.parameter("z", 3)})
    values = referred([gw.constant(0.0), *named.values()], arrays).values[1:]
    assert [value.tolist() for value in values] == [[18, 36], [6, 12], [0, 0, 0]]
    again = gw.gradient(loss, gw.parameter("y"))
    assert referred([again], arrays).values[0] == 30
    assert referred([gw.gradient(y, y)], arrays).values[0] == 1
    assert referred([gw.gradient(y, [x])[0][0]], arrays).values[0] == 0
    nested: Any = gw.gradient(loss, {"layers": [{"x": x}], "pair": (inside, gw.parameter("y"))})
    values = referred([nested["pair"][1], nested["layers"][0]["x"], nested["pair"][0]], arrays).values
    assert [value.tolist() for value in values] == [30, [18, 36], [6, 12]]


def test_row_indices_of_inputs() -> None:
    table, rows = gw.parameter("table", (4, 2)), gw.input("rows", 3, dtype="int64")
    loss = gw.sum(table[rows] ** 3)
    arrays = {"table": np.arange(8.0).reshape(4, 2), "rows": [1, 1, -1]}
    answer = referred([loss, gw.gradient(loss, table)], arrays)
    np.testing.assert_array_equal(answer.values[1], answer.gradients["table"])
    assert answer.values[1].tolist() == [[0, 0], [24, 54], [0, 0], [108, 147]]


def test_a_penalty_on_the_gradient_in_an_input() -> None:
    w, x = gw.parameter("w", (3, 2)), gw.input("x", 2)
    out = gw.sum(gw.tanh(w @ x))
    loss = (gw.norm(gw.gradient(out, x)) - 1) ** 2
    arrays = {"w": RANDOM.normal(size=(3, 2)), "x": RANDOM.normal(size=2)}

    def theirs(w: Any, x: Any) -> Any:
        return (jnp.linalg.norm(jax.grad(lambda x: jnp.tanh(w @ x).sum())(x)) - 1) ** 2

    answer = referred([loss], arrays)
    np.testing.assert_allclose(answer.values[0], theirs(**arrays), rtol=1e-12)
    np.testing.assert_allclose(answer.gradients["w"], jax.grad(theirs)(arrays["w"], arrays["x"]), rtol=1e-10)


def test_a_deep_graph_is_no_deep_recursion_and_takes_time_by_its_size() -> None:
    x = gw.parameter("x")
    chain = x
    for _ in range(20_000):
        chain = gw.sin(gw.exp(chain * 0.1))
    assert len(repr(gw.gradient(chain, x))) < 500


WRONG: list[tuple[Callable[[], Any], str]] = [
    (lambda: gw.gradient(gw.parameter("w", 3), gw.parameter("w", 3)), "no scalar expression; reduce it first"),
    (lambda: gw.gradient(5, gw.parameter("w")), "no scalar expression"),  # type: ignore[arg-type]  # the mistake
    (lambda: gw.gradient(gw.parameter("w"), ["w"]), "'w', which is no expression"),
    (lambda: gw.gradient(gw.parameter("w"), None), "gradient in None; give an expression, or a list or dict"),
    (lambda: gw.gradient(gw.parameter("w"), "w"), "gradient in 'w'; give an expression"),
    (lambda: gw.gradient(gw.parameter("w"), gw.input("i", dtype="int64")), "no expression of floats"),
    (lambda: gw.gradient(gw.parameter("w"), gw.parameter("w"), ties="first"), "choose 'zero' or 'split'"),
]


@pytest.mark.parametrize(("make", "words"), WRONG, ids=range(len(WRONG)))
def test_mistakes(make: Callable[[], Any], words: str) -> None:
    with pytest.raises(gw.InvalidGraphError, match=words):
        make()
