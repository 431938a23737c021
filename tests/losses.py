"""Losses with arrays for them, which several tests use."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

import gradwire as gw

Arrays = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Case:
    loss: gw.Expression
    arrays: Arrays


def hinge(examples: int = 5, features: int = 3, seed: int = 0) -> Case:
    """The hinge loss, and arrays of normal numbers."""
    random = np.random.default_rng(seed)
    w = gw.parameter("w", shape=(features,))
    phi = gw.input("phi", shape=(features,), per_example=True)
    y = gw.input("y", per_example=True)
    arrays = {
        "w": random.normal(size=features),
        "phi": random.normal(size=(examples, features)),
        "y": np.where(random.random(examples) < 0.5, -1.0, 1.0),
    }
    return Case(gw.maximum(0, 1 - gw.dot(w, phi) * y), arrays)


def hinge_by_hand(w: Any, phi: Any, y: Any) -> tuple[Any, Any]:
    """Losses [N] and gradients [N, features]: -I(margin < 1) phi y."""
    margin = phi @ w * y
    return np.maximum(0, 1 - margin), -((margin < 1) * y)[:, None] * phi


def perceptron(examples: int = 40, seed: int = 1) -> Case:
    """Two layers, softmax cross-entropy with integer labels."""
    random = np.random.default_rng(seed)
    x = gw.input("x", shape=(6,), per_example=True)
    label = gw.input("label", per_example=True, dtype="int64")
    hidden = gw.tanh(gw.matmul(gw.parameter("W1", shape=(5, 6)), x) + gw.parameter("b1", shape=(5,)))
    scores = gw.matmul(gw.parameter("W2", shape=(4, 5)), hidden)
    arrays = {
        "x": random.normal(size=(examples, 6)),
        "label": random.integers(4, size=examples),
        "W1": random.normal(size=(5, 6)),
        "b1": random.normal(size=5),
        "W2": random.normal(size=(4, 5)),
    }
    return Case(gw.softmax_cross_entropy_with_integer_labels(scores, label), arrays)


def sum_of_squares(elements: int) -> Case:
    """A loss with a large parameter, and a gradient as large: 2 w."""
    w = gw.parameter("w", shape=(elements,))
    return Case(gw.sum(w * w), {"w": np.arange(elements) % 7 - 3.0})


def endless() -> Case:
    """An hour's work in few bytes, for calls that are cancelled: very many examples, each of which is empty."""
    loss = gw.parameter("w") + gw.sum(gw.input("x", shape=(0,), per_example=True))
    for _ in range(10_000):
        loss = gw.tanh(loss)
    return Case(loss, {"w": np.ones(()), "x": np.zeros((1 << 24, 0))})


def products(size: int) -> Case:
    """Work that takes long and few bytes to ask for: 2 ``size``^3 multiplications forward, twice that backward."""
    column, row = gw.parameter("a", shape=(size, 1)), gw.parameter("b", shape=(1, size))
    return Case(gw.sum((column * row) @ (column * row)), {"a": np.ones((size, 1)), "b": np.ones((1, size))})
