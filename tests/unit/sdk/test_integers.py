"""Inputs of integers, which pick rows and are numbers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradwire as gw

pytestmark = pytest.mark.usefixtures("double_precision")

TABLE = np.random.default_rng(2).normal(size=(5, 3))
TOKENS = np.array([[1, 0, 4, 4], [0, 0, 2, 3]])

LINES: dict[str, Callable[..., Any]] = {
    "emb[tok] * (tok != 0)": lambda np, emb, tok: emb[tok] * (tok != 0)[:, None],
    "emb[tok] + tok": lambda np, emb, tok: emb[tok] + tok[:, None],
    "np.where(tok > 2, emb[tok].sum(-1), -tok)": lambda np, emb, tok: np.where(tok > 2, emb[tok].sum(-1), -tok),
    "emb[tok] / tok.sum()": lambda np, emb, tok: emb[tok] / tok.sum(),
    "emb[tok] * tok.astype(float)[:, None]": lambda np, emb, tok: emb[tok] * tok.astype(float)[:, None],
    "emb[tok.astype(int)] * np.sqrt(tok)[:, None]": lambda np, emb, tok: emb[tok.astype(int)] * np.sqrt(tok)[:, None],
    "np.take(emb, tok, 0) * abs(tok - 2)": lambda np, emb, tok: np.take(emb, tok, 0) * abs(tok - 2)[:, None],
    "emb[0] * tok.reshape(4, 1) ** 2": lambda np, emb, tok: emb[0] * tok.reshape(4, 1) ** 2,
    "emb * tok[0]": lambda np, emb, tok: emb * tok[0],
    "emb[:4].T @ tok": lambda np, emb, tok: emb[:4].T @ tok,
    "emb.sum() * tok.T.mean()": lambda np, emb, tok: emb.sum() * tok.T.mean(),
}


@pytest.mark.parametrize("each", [False, True])
@pytest.mark.parametrize("line", LINES)
def test_they_are_both_as_in_jax(line: str, each: bool) -> None:
    def ours(emb: Any, tok: Any) -> Any:
        return np.sum(LINES[line](np, emb, tok))

    def theirs(emb: Any, tok: Any) -> Any:
        rows = tok if each else tok[None]
        return jnp.mean(jnp.stack([jnp.sum(LINES[line](jnp, emb, row)) for row in rows]))

    tokens = TOKENS if each else TOKENS[0]
    expected = jax.value_and_grad(theirs)(TABLE, tokens)
    with gw.connect("local") as client:
        found = client.value_and_grad(ours, per_example="tok" if each else ())(TABLE, tok=tokens)
        emb = gw.parameter("emb", TABLE.shape)
        tok = gw.input("tok", 4, per_example=each, dtype="int64")
        value, slopes = client.value_and_grad(ours(emb, tok))(emb=TABLE, tok=tokens)
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(found[1], expected[1], rtol=1e-12)
    assert value == found[0]
    np.testing.assert_array_equal(slopes["emb"], found[1])


def test_a_graph_has_an_input_for_each_use() -> None:
    tok = gw.input("tok", 2, dtype="int64")
    both = gw.graph(gw.sum(gw.parameter("emb", 4)[tok] * tok))
    assert {node.name for node in both.nodes if node.name} == {"emb", "tok", "tok as numbers"}
    with gw.connect("local") as client:
        # Either feeds it, and so do both.
        step = client.value_and_grad(both)
        arrays = {"emb": np.arange(4.0), "tok": [1, 3]}
        assert step(arrays)[0] == step({**arrays, "tok as numbers": [1.0, 3.0]})[0] == 10


def test_all_calls_take_them() -> None:
    def loss(emb: Any, tok: Any) -> Any:
        return np.sum(emb[tok] ** 2 * tok)

    table, tokens = np.arange(1.0, 5), np.array([[1, 3], [0, 2]])
    with gw.connect("local") as client:
        assert client.check(loss, table, tok=tokens, options={"per_example": "tok"}).passed
        trace = client.trace(loss, table, tok=tokens[0], options={"per_example": "tok"})
        assert trace["tok as numbers"].value.tolist() == [1, 3]
        with client.stream(loss, per_example="tok") as stream:
            value, _ = stream(table, tok=tokens)
        assert value == np.mean([4 + 16 * 3, 9 * 2])
        rows = client.jacobian(lambda emb, tok: emb[tok] * tok, per_example="tok")(table, tok=tokens)
        assert rows[0].tolist() == [[0, 1, 0, 0], [0, 0, 0, 3]]
        np.testing.assert_array_equal(client.hvp(loss)(np.ones(4), table, tok=tokens[0]), [0, 2, 0, 6])


def test_computed_integers_pick_no_rows() -> None:
    table, tok = gw.parameter("table", (5, 3)), gw.input("tok", 4, dtype="int64")
    with pytest.raises(gw.InvalidGraphError, match=r"computed of the row indices .tok.*x\[tok\]\[1:\] for x\[tok\[1:"):
        table[tok[1:]]
