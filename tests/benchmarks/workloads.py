"""Losses that people minimise, with arrays to evaluate them on.

Peers write each family of losses in their own terms: ``peers/with_jax.py`` and the files beside it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import sqrt
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

import gradwire as gw
from gradwire.v1 import graph_pb2 as pb
from tests.benchmarks.random_graphs import SOURCES, Recipe, packed, recipe

Arrays: TypeAlias = dict[str, NDArray[Any]]
Float: TypeAlias = type[np.float64] | type[np.float32]
Make: TypeAlias = "Callable[[], Workload]"
"""What makes a workload in the process that needs its arrays."""

SHARED = 4
"""Sources of a random graph on examples that are parameters; the others are inputs of each example."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """A loss, and arrays to evaluate it on."""

    family: str
    """Name of the function that writes the loss in a peer's terms."""
    loss: gw.Expression | pb.Graph
    """The loss of one example."""
    parameters: Arrays
    """Arrays to differentiate in, by name: ``[*shape]``."""
    data: Arrays
    """Inputs by name: ``[examples, *shape]``. Without any there is one loss; otherwise the mean over the examples."""
    each: bool = False
    """Whether every example has a gradient of its own, and no mean is taken."""
    recipe: Recipe | None = None
    """Operations of the loss, if it is a random graph."""

    @property
    def arrays(self) -> Arrays:
        """Parameters and inputs."""
        return self.parameters | self.data

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that all floats have."""
        return next(iter(self.parameters.values())).dtype


def logistic(examples: int, features: int, dtype: Float) -> Workload:
    """Logistic regression with an offset."""
    random = np.random.default_rng(0)
    w, b = gw.parameter("w", shape=(features,)), gw.parameter("b")
    x, y = gw.input("x", shape=(features,), per_example=True), gw.input("y", per_example=True)
    return Workload(
        family="logistic",
        loss=gw.sigmoid_binary_cross_entropy(gw.dot(w, x) + b, y),
        parameters={"w": random.normal(size=features).astype(dtype), "b": np.zeros((), dtype)},
        data={
            "x": random.normal(size=(examples, features)).astype(dtype),
            "y": (random.random(examples) < 0.5).astype(dtype),
        },
    )


def hinge(examples: int, features: int) -> Workload:
    """Linear scores on data that is not separable."""
    random = np.random.default_rng(0)
    w, phi = gw.parameter("w", shape=(features,)), gw.input("phi", shape=(features,), per_example=True)
    return Workload(
        family="hinge",
        loss=gw.maximum(0, 1 - gw.dot(w, phi) * gw.input("y", per_example=True)),
        parameters={"w": 0.1 * random.normal(size=features)},
        data={
            "phi": random.normal(size=(examples, features)),
            "y": np.where(random.random(examples) < 0.5, -1.0, 1.0),
        },
    )


def _layers(
    widths: Sequence[int], dtype: Float, activation: Callable[[gw.Expression], gw.Expression]
) -> tuple[gw.Expression, Arrays]:
    """Layers on the input ``x``: what the last one gives, and arrays of their parameters ``W0``, ``b0`` and so on."""
    random = np.random.default_rng(0)
    arrays: Arrays = {}
    values = gw.input("x", shape=widths[:1], per_example=True)
    for layer, (before, after) in enumerate(pairwise(widths)):
        if layer:
            values = activation(values)
        w, b = gw.parameter(f"W{layer}", shape=(after, before)), gw.parameter(f"b{layer}", shape=(after,))
        values = gw.matmul(w, values) + b
        arrays[f"W{layer}"] = (random.normal(size=w.shape) / sqrt(before)).astype(dtype)
        arrays[f"b{layer}"] = (0.1 * random.normal(size=b.shape)).astype(dtype)
    return values, arrays


def classifier(examples: int, widths: Sequence[int], dtype: Float, *, each: bool = False) -> Workload:
    """A perceptron with rectifiers, if there are hidden layers, and cross-entropy."""
    random = np.random.default_rng(1)
    scores, parameters = _layers(widths, dtype, gw.relu)
    y = gw.input("y", per_example=True, dtype="int64")
    return Workload(
        family="classifier",
        loss=gw.softmax_cross_entropy_with_integer_labels(scores, y),
        parameters=parameters,
        data={
            "x": random.normal(size=(examples, widths[0])).astype(dtype),
            "y": random.integers(widths[-1], size=examples),
        },
        each=each,
    )


def regressor(examples: int, widths: Sequence[int], dtype: Float) -> Workload:
    """A perceptron with tanh and squared error."""
    random = np.random.default_rng(1)
    values, parameters = _layers(widths, dtype, gw.tanh)
    return Workload(
        family="regressor",
        loss=gw.squared_error(values[0], gw.input("y", per_example=True)),
        parameters=parameters,
        data={
            "x": random.normal(size=(examples, widths[0])).astype(dtype),
            "y": random.normal(size=examples).astype(dtype),
        },
    )


def embedding(examples: int, words: int, ids: int, width: int, dtype: Float) -> Workload:
    """A logistic regression on the mean of the rows of a table."""
    random = np.random.default_rng(0)
    table, w = gw.parameter("E", shape=(words, width)), gw.parameter("w", shape=(width,))
    chosen = gw.input("ids", shape=(ids,), per_example=True, dtype="int64")
    score = gw.dot(w, gw.mean(gw.take(table, chosen), axis=0))
    return Workload(
        family="embedding",
        loss=gw.sigmoid_binary_cross_entropy(score, gw.input("y", per_example=True)),
        parameters={
            "E": random.normal(size=(words, width)).astype(dtype),
            "w": random.normal(size=width).astype(dtype),
        },
        data={
            "ids": random.integers(words, size=(examples, ids)),
            "y": (random.random(examples) < 0.5).astype(dtype),
        },
    )


def factorisation(examples: int, rows: int, columns: int, rank: int, dtype: Float) -> Workload:
    """Entries of a matrix as products of the rows of two tables."""
    random = np.random.default_rng(0)
    left, right = gw.parameter("U", shape=(rows, rank)), gw.parameter("V", shape=(columns, rank))
    row, column = (gw.input(name, per_example=True, dtype="int64") for name in ("row", "column"))
    entry = gw.sum(gw.take(left, row) * gw.take(right, column))
    return Workload(
        family="factorisation",
        loss=gw.squared_error(entry, gw.input("y", per_example=True)),
        parameters={
            "U": random.normal(size=(rows, rank)).astype(dtype),
            "V": random.normal(size=(columns, rank)).astype(dtype),
        },
        data={
            "row": random.integers(rows, size=examples),
            "column": random.integers(columns, size=examples),
            "y": random.normal(size=examples).astype(dtype),
        },
    )


def attention(examples: int, tokens: int, width: int, dtype: Float) -> Workload:
    """One head; the loss is the mean square of what it gives."""
    random = np.random.default_rng(0)
    x = gw.input("x", shape=(tokens, width), per_example=True)
    query, key, value = (gw.matmul(x, gw.parameter(name, shape=(width, width))) for name in ("Q", "K", "V"))
    weights = gw.softmax(gw.matmul(query, gw.transpose(key)) * (1 / sqrt(width)), axis=1)
    return Workload(
        family="attention",
        loss=gw.mean(gw.square(gw.matmul(weights, value))),
        parameters={name: (random.normal(size=(width, width)) / sqrt(width)).astype(dtype) for name in ("Q", "K", "V")},
        data={"x": random.normal(size=(examples, tokens, width)).astype(dtype)},
    )


def rosenbrock(length: int) -> Workload:
    """Rosenbrock's function of a vector, without examples."""
    x = gw.parameter("x", shape=(length,))
    before, after = x[:-1], x[1:]
    return Workload(
        family="rosenbrock",
        loss=gw.sum(100 * gw.square(after - gw.square(before)) + gw.square(1 - before)),
        parameters={"x": np.random.default_rng(0).normal(size=length)},
        data={},
    )


def scalars(nodes: int) -> Workload:
    """A random graph without examples."""
    written = recipe(nodes)
    return Workload(
        family="scalars",
        loss=packed(written, [pb.Node(name="x", parameter=pb.Parameter(shape=[SOURCES]))]),
        parameters={"x": np.random.default_rng(1).normal(size=SOURCES)},
        data={},
        recipe=written,
    )


def scalars_of_examples(nodes: int, examples: int, dtype: Float) -> Workload:
    """A random graph on the elements of ``x``, which each example has, and of ``w``."""
    random = np.random.default_rng(1)
    written = recipe(nodes)
    sources = [
        pb.Node(name="x", input=pb.Input(shape=[SOURCES - SHARED], per_example=True)),
        pb.Node(name="w", parameter=pb.Parameter(shape=[SHARED])),
    ]
    return Workload(
        family="scalars",
        loss=packed(written, sources),
        parameters={"w": random.normal(size=SHARED).astype(dtype)},
        data={"x": random.normal(size=(examples, SOURCES - SHARED)).astype(dtype)},
        recipe=written,
    )
