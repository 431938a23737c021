"""A scalar graph of 1,000 nodes: on 256 examples, and without a batch, against what traces or runs Python."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from time import perf_counter
from typing import Any

import autograd
import autograd.numpy as anp
import jax
import jax.numpy as jnp
import numpy as np
import torch

from gradwire.v1 import graph_pb2 as pb
from gradwire_server.engine import Evaluation
from tests.benchmarks.peers import scalar, with_jax
from tests.benchmarks.random_graphs import SOURCES, Recipe, build, packed, recipe
from tests.benchmarks.running import evaluation, prepare
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import Timings, interleave
from tests.benchmarks.workloads import SHARED

NODES = 1000
BATCH = 256
IN_TORCH = (torch.add, torch.mul, torch.maximum, torch.sigmoid, torch.tanh)
IN_AUTOGRAD = (anp.add, anp.multiply, anp.maximum, lambda x: 1 / (1 + anp.exp(-x)), anp.tanh)


def _examples() -> tuple[Any, Any]:
    random = np.random.default_rng(1)
    return random.normal(size=(BATCH, SOURCES - SHARED)), random.normal(size=SHARED)


def _engine(written: Recipe, x: Any, w: Any) -> Callable[[], Evaluation]:
    sources = [
        pb.Node(name="x", input=pb.Input(shape=[SOURCES - SHARED], per_example=True)),
        pb.Node(name="w", parameter=pb.Parameter(shape=[SHARED])),
    ]
    return evaluation(prepare(packed(written, sources)), {"x": x, "w": w})


def compare_batch() -> Iterator[Row]:
    """Per node and example."""
    written = recipe(NODES)
    x, w = _examples()
    ours = _engine(written, x, w)
    with jax.enable_x64(True):

        def one(w: Any, x: Any) -> Any:
            return build(written, [*x, *w], with_jax.SCALARS)

        step = jax.jit(jax.value_and_grad(lambda w, x: jax.vmap(one, in_axes=(None, 0))(w, x).mean()))
        inputs = jnp.asarray(w), jnp.asarray(x)
        jax.block_until_ready(step(*inputs))

    def in_jax() -> Any:
        with jax.enable_x64(True):
            return jax.block_until_ready(step(*inputs))

    shared = torch.tensor(w, requires_grad=True)
    columns = torch.tensor(x.T.copy())

    def in_torch() -> Any:
        total = build(written, [*columns, *shared], IN_TORCH).mean()
        return total, torch.autograd.grad(total, shared)

    result, (value, slopes) = ours(), in_jax()
    np.testing.assert_allclose(result.loss, value, rtol=1e-9)
    np.testing.assert_allclose(result.gradients["w"], slopes, rtol=1e-7)
    np.testing.assert_allclose(result.gradients["w"], in_torch()[1][0].numpy(), rtol=1e-7)
    timings = interleave({"engine": ours, "JAX jit vmap": in_jax, "torch": in_torch}, seconds=10)
    work = f"scalar graph, {NODES:,} nodes x {BATCH} examples, a node and example"
    yield from rows(work, timings, "engine", {"JAX jit vmap": 8, "torch": None}, 1e-9 * NODES * BATCH)


def compare_single() -> Iterator[Row]:
    """Without a batch, and from the graph as data to the first gradient."""
    written = recipe(NODES)
    x = np.random.default_rng(1).normal(size=SOURCES)
    message = packed(written, [pb.Node(name="x", parameter=pb.Parameter(shape=[SOURCES]))]).SerializeToString()

    def first() -> Any:
        return evaluation(prepare(pb.Graph.FromString(message)), {"x": x})()

    ours = evaluation(prepare(pb.Graph.FromString(message)), {"x": x})
    tensor = torch.tensor(x, requires_grad=True)

    def in_torch() -> Any:
        total = build(written, list(tensor), IN_TORCH)
        return total, torch.autograd.grad(total, tensor)

    slope = autograd.grad(lambda x: build(written, [x[i] for i in range(SOURCES)], IN_AUTOGRAD))

    def in_python() -> list[float]:
        values = [scalar.Value(number) for number in x.tolist()]
        scalar.backward(build(written, values, scalar.WRITE, scalar.total))
        return [value.gradient for value in values]

    gradient = ours().gradients["x"]
    np.testing.assert_allclose(in_torch()[1][0].numpy(), gradient, rtol=1e-8)
    np.testing.assert_allclose(slope(x), gradient, rtol=1e-8)
    np.testing.assert_allclose(in_python(), gradient, rtol=1e-8)
    peers: dict[str, Callable[[], Any]] = {"torch": in_torch, "autograd": lambda: slope(x), "Python": in_python}
    timings = interleave({"engine": ours, "examples": _engine(written, *_examples()), **peers}, seconds=12)
    work = f"scalar graph, {NODES:,} nodes"
    yield from rows(work, timings, "engine", dict.fromkeys(peers), 1e-6)
    each = {peer: [BATCH * seconds for seconds in timings.rounds[peer]] for peer in peers}
    yield from rows(
        f"{work} x {BATCH} examples, by the peer one after another, a node and example",
        Timings({"engine": timings.rounds["examples"], **each}),
        "engine",
        {"torch": 500, "autograd": None, "Python": 500},
        1e-9 * NODES * BATCH,
    )
    with jax.enable_x64(True):
        start = perf_counter()
        jitted = jax.jit(jax.value_and_grad(lambda x: build(written, list(x), with_jax.SCALARS)))
        _, slopes = jax.block_until_ready(jitted(jnp.asarray(x)))
        compiled = perf_counter() - start
    np.testing.assert_allclose(slopes, gradient, rtol=1e-8)
    first()
    once = Timings({"engine": [interleave({"engine": first}, seconds=1).seconds("engine")], "JAX jit": [compiled]})
    yield from rows(f"{work}, from the graph as data to its gradient", once, "engine", {"JAX jit": 1000})
