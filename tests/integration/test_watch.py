"""Training that is watched: progress, norms by parameter, and warnings by name; and pytrees as vectors."""

from __future__ import annotations

import warnings
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize, rosen, rosen_der, rosen_hess_prod
from tqdm import tqdm

import gradwire as gw


def deep(params: Any, x: Any) -> gw.Expression:
    for w in params["layers"]:
        x = gw.sigmoid(w * x)
    return gw.add(x, 0 * params["unused"], params["bias"])


def parameters() -> dict[str, Any]:
    return {"layers": [np.array(1e-3)] * 6, "unused": np.zeros(2), "bias": 1.0}


def scalar(params: Any, x: Any) -> gw.Expression:
    return gw.sum(deep(params, x))


def test_what_vanishes_and_what_is_never_reached_is_told_once_by_name(client: gw.Client) -> None:
    step = gw.watch(client.value_and_grad(scalar), patience=3)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for _ in range(6):
            value, grads = step(parameters(), x=1.0)
    assert value == client.value_and_grad(scalar)(parameters(), x=1.0)[0]
    assert grads["bias"] == 2
    messages = {str(each.message).split('"')[1]: str(each.message) for each in caught}
    assert len(caught) == len(messages)
    assert "was 0 in all of 3 calls; does the loss depend on it?" in messages["params.unused"]
    assert "vanished: its norm is" in messages["params.layers.0"]
    assert "params.layers.5" not in messages
    assert "params.bias" not in messages
    assert {each.category for each in caught} == {gw.GradientWarning}
    assert {each.filename for each in caught} == {__file__}


def test_what_explodes_is_told_of(client: gw.Client) -> None:
    def loss(w: Any, x: Any) -> gw.Expression:
        return gw.exp(w["a"] * x) + gw.log(w["b"])

    step = gw.watch(client.value_and_grad(loss), patience=2)
    for _ in range(3):
        step({"a": 1.0, "b": 1.0}, x=1.0)
    with pytest.warns(gw.GradientWarning, match=r'gradient in "w.a" exploded: its norm is .* and was 2.72 on average'):
        step({"a": 1.0, "b": 1.0}, x=20.0)
    with pytest.warns(gw.GradientWarning, match=r'gradient in "w.b" exploded: its norm is inf at call 5'):
        step({"a": 1.0, "b": 0.0}, x=1.0)


def test_a_callback_sees_each_call(client: gw.Client) -> None:
    seen: list[gw.Watched] = []
    with client.stream(lambda w, x: gw.sum(w * x), has_aux=False) as stream, tqdm(total=3, disable=True) as bar:

        def progress(call: gw.Watched) -> None:
            seen.append(call)
            bar.set_postfix(loss=call.loss)

        step = gw.watch(stream, progress)
        for scale in (1.0, 2.0, 3.0):
            step(np.ones(2), x=np.array([3.0, 4.0]) * scale)
    assert [(call.call, call.loss, call.norms) for call in seen] == [
        (1, 7, {"w": 5}),
        (2, 14, {"w": 10}),
        (3, 21, {"w": 15}),
    ]
    with pytest.raises(gw.UsageError, match="found function"):
        gw.watch(progress)  # type: ignore[arg-type]  # the mistake


def test_a_pytree_is_a_vector_for_optimizers(client: gw.Client) -> None:
    def rosenbrock(params: Any) -> gw.Expression:
        x = [params["first"], *params["others"]]
        return gw.add(*(100 * (b - a**2) ** 2 + (1 - a) ** 2 for a, b in pairwise(x)))

    params = {"others": (np.array(-0.5), 2), "first": 0.25}
    start, unravel = gw.ravel_pytree(params)
    np.testing.assert_array_equal(start, [0.25, -0.5, 2])
    assert unravel(start) == params
    step = client.value_and_grad(rosenbrock)

    def flat(vector: Any) -> tuple[Any, Any]:
        value, grads = step(unravel(vector))
        return value, gw.ravel_pytree(grads)[0]

    value, slope = flat(start)
    np.testing.assert_allclose(value, rosen(start), rtol=1e-14)
    np.testing.assert_allclose(slope, rosen_der(start), rtol=1e-14)
    found = minimize(flat, start, jac=True)
    np.testing.assert_allclose(gw.ravel_pytree(unravel(found.x))[0], 1, atol=1e-4)
    with pytest.raises(gw.InvalidRequestError, match=r"a vector of shape \(2,\); the pytree has 3 elements"):
        unravel(start[:2])
    empty, nothing = gw.ravel_pytree({})
    assert (empty.shape, nothing(empty)) == ((0,), {})


def test_hessp_for_optimizers(client: gw.Client) -> None:
    def rosenbrock(w: Any) -> gw.Expression:
        return gw.sum(100 * (w[1:] - w[:-1] ** 2) ** 2 + (1 - w[:-1]) ** 2)

    start, vector = np.array([-1.2, 1.0, 0.7]), np.array([1.0, -2.0, 0.5])
    product = client.hvp(rosenbrock)
    np.testing.assert_allclose(product(vector, start), rosen_hess_prod(start, vector), rtol=1e-12)
    step = client.value_and_grad(rosenbrock)
    found = minimize(step, start, jac=True, hessp=lambda w, v: product(v, w), method="trust-krylov")
    np.testing.assert_allclose(found.x, 1, atol=1e-6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"patience": 0}, "patience=0; expected a number of calls, at least 1"),
        ({"patience": 1.5}, "patience=1.5"),
        ({"vanished": -1}, "vanished=-1; expected a number above 0"),
        ({"exploded": "a"}, "exploded='a'"),
        ({"callback": 5}, "callback=5 cannot be called"),
    ],
)
def test_options_that_make_no_sense(client: gw.Client, options: Any, words: str) -> None:
    with pytest.raises(gw.UsageError, match=words):
        gw.watch(client.value_and_grad(gw.parameter("w")), **options)
