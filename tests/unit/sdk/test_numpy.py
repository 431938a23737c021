"""NumPy as people type it: each line builds a graph, with NumPy's value and JAX's gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import gradwire as gw
from tests.unit.sdk.referring import referred

pytestmark = pytest.mark.usefixtures("double_precision")

RANDOM = np.random.default_rng(3)
ARRAYS = {
    "x": RANDOM.normal(size=(3, 4)),
    "y": RANDOM.normal(size=(3, 4)),
    "p": RANDOM.random((3, 4)) + 0.5,
    "v": RANDOM.normal(size=4),
    "m": RANDOM.normal(size=(4, 4)),
    "t": RANDOM.normal(size=(2, 3, 4)),
    "s": np.array(0.7),
}
MASK = np.array([True, False, True])
COLUMNS = np.array([True, False, False, True])
GRID = ARRAYS["y"] > 0.1

Line = Callable[..., Any]
LINES: dict[str, Line] = {
    # Slices and picks.
    "x[1]": lambda np, x: x[1],
    "x[-1]": lambda np, x: x[-1],
    "x[1, 2]": lambda np, x: x[1, 2],
    "x[1:]": lambda np, x: x[1:],
    "x[:, 1]": lambda np, x: x[:, 1],
    "x[:, ::2]": lambda np, x: x[:, ::2],
    "x[::-1, -1:0:-2]": lambda np, x: x[::-1, -1:0:-2],
    "x[..., 0]": lambda np, x: x[..., 0],
    "t[1, ..., 2:]": lambda np, t: t[1, ..., 2:],
    "x[:, None]": lambda np, x: x[:, None],
    "x[np.newaxis, 1, :, None]": lambda np, x: x[np.newaxis, 1, :, None],
    "x[:0]": lambda np, x: x[:0],
    "x[()]": lambda np, x: x[()],
    "x[[0, 2, 0]]": lambda np, x: x[np.array([0, 2, 0])],
    "x[:, [1, 1, 3]]": lambda np, x: x[:, np.array([1, 1, 3])],
    "x[[0, 1, 2], [3, 0, 1]]": lambda np, x: x[np.array([0, 1, 2]), np.array([3, 0, 1])],
    "x[[[0], [2]], [1, -1]]": lambda np, x: x[np.array([[0], [2]]), np.array([1, -1])],
    "x[1, [0, 2]]": lambda np, x: x[1, np.array([0, 2])],
    "t[1, :, [0, 2]]": lambda np, t: t[1, :, np.array([0, 2])],
    "t[:, [0, 2], 1:]": lambda np, t: t[:, np.array([0, 2]), 1:],
    "t[0, [0, 2], None]": lambda np, t: t[0, np.array([0, 2]), None],
    "x[MASK]": lambda np, x: x[MASK],
    "x[:, COLUMNS]": lambda np, x: x[:, COLUMNS],
    "x[GRID]": lambda np, x: x[GRID],
    "np.take(x, i, axis=1)": lambda np, x: np.take(x, np.array([3, 0]), axis=1),
    "np.take(x, i)": lambda np, x: np.take(x, np.array([5, 0])),
    "x.take(i, axis=0)": lambda np, x: x.take(np.array([2, 2]), axis=0),
    # Comparisons and choices.
    "np.where(x > 0, x, 0)": lambda np, x: np.where(x > 0, x, 0),
    "np.where(x > y, x, y * 2)": lambda np, x, y: np.where(x > y, x, y * 2),
    "np.where(MASK[:, None], x, y)": lambda np, x, y: np.where(MASK[:, None], x, y),
    "np.where((x > 0) & (x < 1), x, -x)": lambda np, x: np.where((x > 0) & (x < 1), x, -x),
    "np.where((x < -1) | ~(x <= 1), 0, x**2)": lambda np, x: np.where((x < -1) | ~(x <= 1), 0, x**2),
    "np.where(np.logical_not(x >= 0), 1, x)": lambda np, x: np.where(np.logical_not(x >= 0), 1, x),
    "x * (x > 0)": lambda np, x: x * (x > 0),
    "(x == y[0]).sum() + x": lambda np, x, y: (x == y[0]).sum() + x,
    "x * (y != 0)": lambda np, x, y: x * (y != 0),
    "(x > 0).sum() * x": lambda np, x: (x > 0).sum() * x,
    "(x > 0).astype(float) @ v": lambda np, x, v: (x > 0).astype(float) @ v,
    "np.sign(x) * x": lambda np, x: np.sign(x) * x,
    "np.abs(x)": lambda np, x: np.abs(x),
    "np.clip(x, -0.5, 0.5)": lambda np, x: np.clip(x, -0.5, 0.5),
    "x.clip(min=0) + x.clip(-1, 1)": lambda np, x: x.clip(min=0) + x.clip(-1, 1),
    "np.minimum(np.maximum(x, 0), 1)": lambda np, x: np.minimum(np.maximum(x, 0), 1),
    # Functions.
    "np.sin(x) + np.cos(y)": lambda np, x, y: np.sin(x) + np.cos(y),
    "np.tan(x)": lambda np, x: np.tan(x),
    "np.sinh(x) * np.cosh(y)": lambda np, x, y: np.sinh(x) * np.cosh(y),
    "np.log1p(p) - np.expm1(x)": lambda np, p, x: np.log1p(p) - np.expm1(x),
    "np.log2(p) + np.log10(p) + np.exp2(x)": lambda np, p, x: np.log2(p) + np.log10(p) + np.exp2(x),
    "1 / (1 + np.exp(-x))": lambda np, x: 1 / (1 + np.exp(-x)),
    "np.sqrt(x**2 + 1)": lambda np, x: np.sqrt(x**2 + 1),
    "np.hypot(x, y)": lambda np, x, y: np.hypot(x, y),
    "np.logaddexp(x, y)": lambda np, x, y: np.logaddexp(x, y),
    # Reductions.
    "np.sum(x, axis=0)": lambda np, x: np.sum(x, axis=0),
    "x.mean(axis=(0, 1))": lambda np, x: x.mean(axis=(0, 1)),
    "x.mean(axis=1, keepdims=True)": lambda np, x: x.mean(axis=1, keepdims=True),
    "np.max(x, axis=-1) - x.min()": lambda np, x: np.max(x, axis=-1) - x.min(),
    "x.std(axis=0) + np.var(x)": lambda np, x: x.std(axis=0) + np.var(x),
    "np.prod(x, axis=1)": lambda np, x: np.prod(x, axis=1),
    "x.prod()": lambda np, x: x.prod(),
    "np.cumsum(x, axis=1)": lambda np, x: np.cumsum(x, axis=1),
    "x.cumsum()": lambda np, x: x.cumsum(),
    "np.linalg.norm(x)": lambda np, x: np.linalg.norm(x),
    "np.linalg.norm(x, axis=1)": lambda np, x: np.linalg.norm(x, axis=1),
    "np.linalg.norm(v, 1) + np.linalg.norm(v, np.inf)": lambda np, v: np.linalg.norm(v, 1) + np.linalg.norm(v, np.inf),
    "np.linalg.norm(x, axis=0, keepdims=True)": lambda np, x: np.linalg.norm(x, axis=0, keepdims=True),
    "np.diff(x, axis=0)": lambda np, x: np.diff(x, axis=0),
    "np.diff(v, n=2)": lambda np, v: np.diff(v, n=2),
    "np.trace(m)": lambda np, m: np.trace(m),
    "np.diagonal(m, 1)": lambda np, m: np.diagonal(m, 1),
    # Products.
    "x @ v": lambda np, x, v: x @ v,
    "x @ y.T": lambda np, x, y: x @ y.T,
    "np.dot(v, v)": lambda np, v: np.dot(v, v),
    "np.outer(v, v[:2])": lambda np, v: np.outer(v, v[:2]),
    "np.inner(x, y)": lambda np, x, y: np.inner(x, y),
    "np.tensordot(t, x, axes=2)": lambda np, t, x: np.tensordot(t, x, axes=2),
    "np.tensordot(t, x, axes=([1, 2], [0, 1]))": lambda np, t, x: np.tensordot(t, x, axes=([1, 2], [0, 1])),
    "np.einsum('ij,j->i', x, v)": lambda np, x, v: np.einsum("ij,j->i", x, v),
    "np.einsum('ij,kj->ik', x, y)": lambda np, x, y: np.einsum("ij,kj->ik", x, y),
    "np.einsum('ij,ij->i', x, y)": lambda np, x, y: np.einsum("ij,ij->i", x, y),
    "np.einsum('bij,jk', t, m)": lambda np, t, m: np.einsum("bij,jk", t, m),
    "np.einsum('...j,j->...', t, v)": lambda np, t, v: np.einsum("...j,j->...", t, v),
    "np.einsum('ii', m)": lambda np, m: np.einsum("ii", m),
    "np.einsum('ii->i', m)": lambda np, m: np.einsum("ii->i", m),
    "np.einsum('i,ij,j', v, m, v)": lambda np, v, m: np.einsum("i,ij,j", v, m, v),
    "np.einsum('ij->ji', x)": lambda np, x: np.einsum("ij->ji", x),
    "np.einsum('i,j->ij', v, v)": lambda np, v: np.einsum("i,j->ij", v, v),
    "np.einsum('ij,jk->k', x, m)": lambda np, x, m: np.einsum("ij,jk->k", x, m),
    # Shapes.
    "x.reshape(-1)": lambda np, x: x.reshape(-1),
    "x.reshape(2, 6)": lambda np, x: x.reshape(2, 6),
    "x.T": lambda np, x: x.T,
    "np.transpose(t, (1, 2, 0))": lambda np, t: np.transpose(t, (1, 2, 0)),
    "x.ravel()": lambda np, x: x.ravel(),
    "x.flatten()": lambda np, x: x.flatten(),
    "np.squeeze(x[:1])": lambda np, x: np.squeeze(x[:1]),
    "x[:, :1].squeeze(1)": lambda np, x: x[:, :1].squeeze(1),
    "np.expand_dims(x, (0, -1))": lambda np, x: np.expand_dims(x, (0, -1)),
    "np.swapaxes(t, 0, 2)": lambda np, t: np.swapaxes(t, 0, 2),
    "np.moveaxis(t, 0, -1)": lambda np, t: np.moveaxis(t, 0, -1),
    "np.broadcast_to(v, (3, 4))": lambda np, v: np.broadcast_to(v, (3, 4)),
    "np.concatenate([x, y])": lambda np, x, y: np.concatenate([x, y]),
    "np.concatenate([x, y[:, :1]], axis=1)": lambda np, x, y: np.concatenate([x, y[:, :1]], axis=1),
    "np.concatenate([x, np.ones((1, 4))])": lambda np, x: np.concatenate([x, np.ones((1, 4))]),
    "np.stack([x, y])": lambda np, x, y: np.stack([x, y]),
    "np.stack([x, y], axis=-1)": lambda np, x, y: np.stack([x, y], axis=-1),
    "np.stack([s, v[0]])": lambda np, s, v: np.stack([s, v[0]]),
    "np.hstack([v, x[0]])": lambda np, v, x: np.hstack([v, x[0]]),
    "np.hstack([x, y])": lambda np, x, y: np.hstack([x, y]),
    "np.vstack([v, x])": lambda np, v, x: np.vstack([v, x]),
    "np.split(x, 2, axis=1)[1]": lambda np, x: np.split(x, 2, axis=1)[1],
    "np.split(v, [1, 3])[1]": lambda np, v: np.split(v, [1, 3])[1],
    "np.flip(x, 1)": lambda np, x: np.flip(x, 1),
    "np.roll(x, 1, axis=0)": lambda np, x: np.roll(x, 1, axis=0),
    "np.roll(x, -3)": lambda np, x: np.roll(x, -3),
    "np.tile(v, 3)": lambda np, v: np.tile(v, 3),
    "np.tile(x, (2, 1))": lambda np, x: np.tile(x, (2, 1)),
    "np.repeat(x, 2, axis=1)": lambda np, x: np.repeat(x, 2, axis=1),
    "np.pad(x, 1)": lambda np, x: np.pad(x, 1),
    "np.pad(x, ((0, 1), (2, 0)))": lambda np, x: np.pad(x, ((0, 1), (2, 0))),
    "np.tril(m) + np.triu(m, 1)": lambda np, m: np.tril(m) + np.triu(m, 1),
    "x + np.zeros_like(x) + np.full_like(x, 2)": lambda np, x: x + np.zeros_like(x) + np.full_like(x, 2),
    # Whole losses.
    "x - x.mean(0) / x.std(0)": lambda np, x: x - x.mean(0) / x.std(0),
    "softmax": lambda np, x: np.exp(x - x.max(1, keepdims=True)) / np.exp(x - x.max(1, keepdims=True)).sum(1)[:, None],
    "huber": lambda np, x: np.where(np.abs(x) < 1, 0.5 * x**2, np.abs(x) - 0.5).mean(),
    "cosine": lambda np, x, y: np.sum(x * y) / (np.linalg.norm(x) * np.linalg.norm(y)),
    "distances": lambda np, x, y: ((x[:, None, :] - y[None, :, :]) ** 2).sum(-1),
    "for loop": lambda np, x: sum(row @ row for row in x),
}


def on_engine(loss: gw.Expression, arrays: dict[str, Any]) -> dict[str, Any]:
    """The gradients that the engine gives; for two examples, so that it takes the way of these."""
    nodes = {node.name for node in gw.graph(loss).nodes}
    given = {name: array for name, array in arrays.items() if name in nodes}
    with gw.connect("local") as client:
        computed = client.value_and_grad(loss * gw.input("each", per_example=True), reduction="sum")
        gradients: dict[str, Any] = computed({**given, "each": [0.25, 0.75]})[1]
    return gradients


def check_line(function: Callable[..., Any], *, compiled: bool = True) -> None:
    """See that a line of NumPy has NumPy's value and JAX's gradient, in the graph and on the engine.

    Args:
        function: The line, of a module and arrays.
        compiled: Whether JAX can compile it, which is quicker.
    """
    names = function.__code__.co_varnames[1 : function.__code__.co_argcount]
    arrays = {name: ARRAYS[name] for name in names}
    built = function(np, *(gw.parameter(name, ARRAYS[name].shape) for name in names))
    with np.errstate(invalid="ignore"):
        expected = np.asarray(function(np, *arrays.values()))
    assert built.shape == expected.shape
    weights = np.linspace(1, 2, expected.size).reshape(expected.shape)
    (_, value), gradients = referred([gw.sum(built * weights), built], arrays)
    np.testing.assert_allclose(value, expected, rtol=1e-13, atol=1e-14)
    places = tuple(range(len(names)))
    differentiated = jax.grad(lambda *own: (function(jnp, *own) * weights).sum(), places)
    slopes = (jax.jit(differentiated) if compiled else differentiated)(*map(jnp.asarray, arrays.values()))
    ours = on_engine(gw.sum(built * weights), arrays)
    for name, slope in zip(names, slopes, strict=True):
        # A graph has no node for what it does not need.
        np.testing.assert_allclose(gradients.get(name, 0), slope, rtol=1e-10, atol=1e-12)
        np.testing.assert_allclose(ours.get(name, 0), slope, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("line", LINES)
def test_a_line_has_numpys_value_and_jaxs_gradient(line: str) -> None:
    check_line(LINES[line])
