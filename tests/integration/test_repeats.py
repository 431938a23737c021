"""Calls after calls, of which most have the same form: whatever differs from the last one is noticed."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from typing import Any, NamedTuple

import numpy as np
import pytest

import gradwire as gw

W = np.array([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])
BIG_ENDIAN, REAL = W.astype(">f8"), (W + 1j).real


class Pair(NamedTuple):
    a: Any
    b: Any


class Other(NamedTuple):
    a: Any
    b: Any


ARRAYS = {
    "the same": W,
    "another shape": W[:1],
    "columns first": np.asfortranarray(W),
    "every other column": np.repeat(W, 2, axis=1)[:, ::2],
    "big-endian": BIG_ENDIAN,
    "single": W.astype("f4"),
    "whole": W.astype("i8"),
    "flags": W > 2,
    "a list": W.tolist(),
    "a part of complex numbers": REAL,
    "read-only": np.broadcast_to(W[0], (2, 3)),
    "no example": W[:0],
}


@pytest.mark.parametrize("how", ARRAYS)
def test_arrays_that_are_laid_out_otherwise_have_their_own_numbers(client: gw.Client, how: str) -> None:
    x = gw.input("x", shape=(3,), per_example=True)
    by_expression = client.value_and_grad(gw.dot(gw.parameter("w", shape=(3,)), x), reduction="sum", dtype="f8")
    by_function = client.value_and_grad(lambda w, x: gw.dot(x, w), per_example="x", reduction="sum", dtype="f8")
    vector, other = np.array([1.0, -1.0, 2.0]), ARRAYS[how]
    rows = np.asarray(other, "f8").reshape(-1, 3)
    for given in (W, other, W, other, other):
        expected = np.asarray(given, "f8").reshape(-1, 3).sum(axis=0)
        value, grads = by_expression(x=given, w=vector)
        assert (value, list(grads["w"])) == (expected @ vector, list(expected))
        assert (value, list(grads["w"])) == _listed(by_function(vector, x=given))
        assert (value, list(grads["w"])) == _listed(by_expression({"w": vector}, x=given))
    for given in (vector, vector[::-1]):
        assert by_expression(x=rows, w=given)[0] == rows.sum(axis=0) @ given


def _listed(answer: tuple[Any, Any]) -> tuple[Any, list[float]]:
    value, grads = answer
    return value, list(grads["w"] if isinstance(grads, dict) else grads)


TREES: dict[str, Any] = {
    "a dict": {"a": W, "b": W * 2},
    "with an order of its own": OrderedDict(b=W, a=W * 2),
    "with a default": defaultdict(float, a=W, b=W * 2),
    "of numbers": {"a": 2.0, "b": np.float64(3)},
    "with one key more": {"a": W, "b": W * 2, "c": W},
    "with another key": {"a": W, "c": W * 2},
    "nested": {"a": {"a": W}, "b": [W * 2]},
    "with nothing in it": {"a": W, "b": None},
    "a list": [W, W * 2],
    "a tuple": (W, W * 2),
    "of lists": {"a": [W, W], "b": (W, Pair(W, 2.0))},
    "of names": Pair(W, W * 2),
    "of other names": Other(W, W * 2),
    "an array": W,
}


@pytest.mark.parametrize("how", TREES)
def test_gradients_are_nested_as_those_of_this_call(client: gw.Client, how: str) -> None:
    import jax  # noqa: PLC0415  (the judge of pytrees)

    def loss(p: Any, scale: Any) -> Any:
        return sum((gw.sum(leaf**2) for leaf in jax.tree.leaves(p)), start=gw.constant(0.0)) * scale

    step = client.value_and_grad(loss)
    for tree in (TREES["a dict"], TREES[how], TREES["of lists"], TREES[how], TREES[how]):
        for scale in (1.0, np.array(2.0)):
            _, grads = step(tree, scale=scale)
            expected = jax.tree.map(lambda leaf, scale=scale: 2 * np.asarray(leaf) * scale, tree)
            assert jax.tree.structure(grads) == jax.tree.structure(expected)
            assert type(grads) is type(tree) or tree is W
            jax.tree.map(np.testing.assert_array_equal, grads, expected)


def test_flags_beside_the_same_arrays_are_those_of_this_call(client: gw.Client) -> None:
    step = client.value_and_grad(lambda w, how: gw.sum(w) * (2 if how is True else 3 if how == "text" else how))
    assert [step(W, how=how)[0] for how in (True, "text", True, 4.0, True, "text", 1, True)] == [
        21 * factor for factor in (2, 3, 2, 4, 2, 3, 1, 2)
    ]


def test_a_name_more_or_less_is_told_after_a_call_that_went_well(client: gw.Client) -> None:
    step = client.value_and_grad(gw.parameter("w", shape=(3,)) @ gw.input("x", shape=(3,)))
    function = client.value_and_grad(lambda w, x: gw.dot(x, w))
    w = W[0]
    assert step(w=w, x=w)[0] == function(w, x=w)[0] == 14
    with pytest.raises(gw.InvalidRequestError, match='"v"'):
        step(w=w, x=w, v=w)
    with pytest.raises(gw.InvalidRequestError, match='"x"'):
        step(w=w)
    with pytest.raises(gw.InvalidRequestError, match="unexpected keyword argument 'v'"):
        function(w, x=w, v=w)
    with pytest.raises(gw.InvalidRequestError, match="'x'"):
        function(w)
    assert step(x=w, w=w)[0] == function(w, w)[0] == function(x=w, w=w)[0] == 14
