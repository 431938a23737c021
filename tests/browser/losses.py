"""Losses whose pages are opened."""

from __future__ import annotations

import numpy as np

import gradwire as gw
from gradwire.v1 import graph_pb2
from tests.browser.conftest import traced


def penalised() -> gw.Trace:
    """The hinge loss of two scalar weights, with a penalty, so that the gradients of branches add up."""
    w1, w2 = gw.parameter("w1"), gw.parameter("w2")
    score = (w1 * gw.input("x1") + w2 * gw.input("x2")).named("score")
    margin = (score * gw.input("y")).named("margin")
    hinge = gw.maximum(0, 1 - margin).named("hinge")
    loss = (hinge + 0.25 * (w1 * w1 + w2 * w2).named("square")).named("loss")
    return traced(loss, {"w1": 0.5, "w2": 1.0, "x1": 3.0, "x2": -1.0, "y": -1.0})


def layers(count: int = 3, width: int = 6) -> gw.Trace:
    """A perceptron whose parameters are named by layer."""
    random = np.random.default_rng(0)
    hidden, arrays = gw.input("x", shape=(width,)), {"x": random.normal(size=width)}
    for layer in range(1, count + 1):
        shapes = {f"layer{layer}.W": (width, width), f"layer{layer}.b": (width,)}
        arrays |= {name: random.normal(size=shape) for name, shape in shapes.items()}
        weights, bias = (gw.parameter(name, shape=shape) for name, shape in shapes.items())
        hidden = gw.tanh(weights @ hidden + bias).named(f"layer{layer}.out")
    return traced(gw.sum(hidden * hidden).named("loss"), arrays)


def nested() -> gw.Trace:
    """Groups in groups, of which some have names that are wider than what is in them."""
    names = [
        "model.encoder.block.attention",
        "model.encoder.block.mlp",
        "model.encoder.a_name_that_is_wide",
        "model.head",
    ]
    node, arrays = gw.input("x"), {"x": 0.3}
    for name in names:
        weight = gw.parameter(f"{name}.w")
        node = gw.tanh(node * weight).named(f"{name}.out")
        arrays[weight.name] = 0.7
    return traced((node * node).named("loss"), arrays)


def elementwise() -> gw.Trace:
    """Every op on scalars, each on a number of its own."""
    a, b = gw.parameter("a"), gw.parameter("b")
    parts = [gw.sigmoid(a), gw.exp(b), gw.log(a), gw.tanh(b), gw.softplus(a), gw.power(a, 3), gw.power(b, -1)]
    parts += [gw.maximum(a, b), gw.minimum(a, b), a * b * b, gw.sum(a), gw.logsumexp(b)]
    return traced(gw.add(*parts), {"a": 0.7, "b": -1.3})


def by_hand() -> gw.Trace:
    """Ops on scalars that have no operator, from a graph as other languages send it."""
    graph = graph_pb2.Graph()
    for name in ("a", "b"):
        graph.nodes.add(name=name).parameter.SetInParent()
    for kind in ("sin", "cos", "log1p", "expm1", "erf"):
        getattr(graph.nodes.add(name=kind), kind).operands.append(0)
    graph.nodes.add(name="less").less.operands.extend([1, 0])
    graph.nodes.add(name="equal").equal.operands.extend([0, 1])
    graph.nodes.add(name="select").select.operands.extend([7, 0, 1])
    graph.nodes.add(name="other").select.operands.extend([8, 0, 1])
    graph.nodes.add(name="stop").stop_gradient.operands.append(1)
    graph.nodes.add(name="loss").add.operands.extend(range(2, 12))
    graph.loss = 12
    return traced(graph, {"a": 0.7, "b": -1.3})


def not_a_number() -> gw.Trace:
    """A logarithm of a negative number, and what comes of it."""
    x, y = gw.parameter("x"), gw.parameter("y")
    return traced((gw.log((x - y).named("gap")).named("bad") * x + gw.sigmoid(y)).named("loss"), {"x": 1.0, "y": 2.0})


def doubled(times: int) -> gw.Trace:
    """x + x, again and again: twice as many paths each time."""
    node = gw.parameter("x")
    for _ in range(times):
        node = node + node
    return traced(node, {"x": 1.0})


def chain(nodes: int) -> gw.Trace:
    """Many scalar ops without names, a third of them at the same depth."""
    random = np.random.default_rng(0)
    weights = [gw.parameter(f"w{number}") for number in range(nodes // 3)]
    products = [
        weight * float(factor) for weight, factor in zip(weights, random.normal(size=len(weights)), strict=True)
    ]
    node = products[0]
    for number, product in enumerate(products[1:]):
        node = gw.tanh(node + product) if number % 2 else node + product
    return traced(node, {weight.name: float(random.normal()) for weight in weights})
