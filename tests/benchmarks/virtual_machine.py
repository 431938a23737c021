"""Scalar graphs without a batch, against CasADi's virtual machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from time import perf_counter
from typing import Any

import casadi
import numpy as np
from numpy.typing import NDArray

from gradwire.v1 import graph_pb2 as pb
from tests.benchmarks.peers.with_casadi import Machine, random_graph, total
from tests.benchmarks.random_graphs import SOURCES, ordinary, packed, recipe
from tests.benchmarks.running import bound, evaluation, prepare
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import Timings, interleave

SIZES = (1_000, 10_000, 100_000, 1_000_000)
CHAIN, LEAVES, BRANCHES = 100_000, 1_000_000, 50

Floats = NDArray[np.float64]


def source(size: int) -> pb.Node:
    """The parameter of our graphs."""
    return pb.Node(name="x", parameter=pb.Parameter(shape=[size]))


def _against(
    work: str, graph: pb.Graph, x: Floats, machine: Callable[[], Machine], reach: tuple[float, float | None]
) -> Iterator[Row]:
    """Two rows: calls, and from the graph as data to the first gradient; ``reach`` is of both."""
    message = graph.SerializeToString()

    def first() -> Any:
        return evaluation(prepare(pb.Graph.FromString(message)), {"x": x})()

    first()  # As a server that serves already: nothing is to be loaded any more.
    start = perf_counter()
    built = machine()
    theirs = built.at(x)
    theirs()
    built_in = perf_counter() - start
    program = prepare(graph)
    ours = bound(program, {"x": x})
    result = ours()
    np.testing.assert_allclose(result.loss, built.value[0], rtol=1e-8)
    np.testing.assert_allclose(result.gradients["x"], built.gradient, rtol=1e-6, atol=1e-12)
    timings = interleave({"engine": ours, "CasADi SX": theirs}, seconds=6)
    yield from rows(work, timings, "engine", {"CasADi SX": reach[0]}, 1e-6)
    if reach[1] is not None:
        prepared = interleave({"engine": first}, seconds=1).seconds("engine")
        once = Timings({"engine": [prepared], "CasADi SX": [built_in]})
        yield from rows(f"{work}, from the graph as data to its gradient", once, "engine", {"CasADi SX": reach[1]})


def compare_sizes() -> Iterator[Row]:
    """Random graphs of 1e3 to 1e6 live nodes."""
    for size in SIZES:
        written = recipe(size)
        x = np.random.default_rng(1).normal(size=SOURCES)
        yield from _against(
            f"scalar graph, {size:,} nodes",
            packed(written, [source(SOURCES)]),
            x,
            partial(random_graph, written),
            (4, 10),
        )


def compare_ordinary() -> Iterator[Row]:
    """A random graph whose nodes come as messages, one each, as workers in other languages send them."""
    nodes = 100_000
    written = recipe(nodes)
    x = np.random.default_rng(1).normal(size=SOURCES)
    arrays = {f"x{source}": np.array(value) for source, value in enumerate(x)}
    message = ordinary(written).SerializeToString()

    def first() -> Any:
        return evaluation(prepare(pb.Graph.FromString(message)), arrays)()

    result = first()
    start = perf_counter()
    built = random_graph(written)
    built.at(x)()
    built_in = perf_counter() - start
    np.testing.assert_allclose(result.loss, built.value[0], rtol=1e-8)
    np.testing.assert_allclose([result.gradients[name] for name in arrays], built.gradient, rtol=1e-6, atol=1e-12)
    prepared = interleave({"engine": first}, seconds=3).seconds("engine")
    once = Timings({"engine": [prepared], "CasADi SX": [built_in]})
    work = f"ordinary nodes from the graph as data to its gradient, {nodes:,} nodes"
    yield from rows(work, once, "engine", {"CasADi SX": 1})


def _one_node(size: int, ops: Sequence[pb.ScalarOp], arities: Sequence[int], arguments: Sequence[int]) -> pb.Graph:
    """A graph of one packed node on ``size`` parameters, whose last operation is the loss."""
    node = pb.Scalars(operands=[0], ops=ops, arities=arities, arguments=arguments, results=[size + len(ops) - 1])
    return pb.Graph(
        nodes=[source(size), pb.Node(scalars=node), pb.Node(reshape=pb.Reshape(operands=[1]))],
        loss=2,
    )


def compare_extremes() -> Iterator[Row]:
    """A chain, a sum of many leaves, and a value that many read."""
    add, tanh, mul = pb.SCALAR_OP_ADD, pb.SCALAR_OP_TANH, pb.SCALAR_OP_MUL
    random = np.random.default_rng(2)

    def chain(x: list[Any]) -> Any:
        value = x[0]
        for step in range(CHAIN):
            value = casadi.tanh(value) if step % 2 else value + x[0]
        return value

    ops = [tanh if step % 2 else add for step in range(CHAIN)]
    arities = [1 if step % 2 else 2 for step in range(CHAIN)]
    arguments = [argument for step in range(CHAIN) for argument in ((step,) if step % 2 else (step, 0))]
    yield from _against(
        f"chain of {CHAIN:,} nodes",
        _one_node(1, ops, arities, arguments),
        random.normal(size=1),
        lambda: Machine(1, chain),
        (2, None),
    )
    yield from _against(
        f"sum of {LEAVES:,} leaves",
        _one_node(LEAVES, [add], [LEAVES], range(LEAVES)),
        random.normal(size=LEAVES),
        lambda: Machine(LEAVES, total),
        (2, None),
    )

    # Each value is read by fifty products, whose sum is the next.
    layers = 200

    def branching(x: list[Any]) -> Any:
        value = x[0]
        for _ in range(layers):
            value = casadi.tanh(total([value * x[1 + branch] for branch in range(BRANCHES)]))
        return value

    ops, arities, arguments, value = [], [], [], 0
    for _ in range(layers):
        first = 1 + BRANCHES + len(ops)
        ops += [mul] * BRANCHES + [add, tanh]
        arities += [2] * BRANCHES + [BRANCHES, 1]
        arguments += [place for branch in range(BRANCHES) for place in (value, 1 + branch)]
        arguments += [*range(first, first + BRANCHES), first + BRANCHES]
        value = first + BRANCHES + 1
    yield from _against(
        f"{layers} times {BRANCHES} branches that meet",
        _one_node(1 + BRANCHES, ops, arities, arguments),
        random.normal(size=1 + BRANCHES),
        lambda: Machine(1 + BRANCHES, branching),
        (2, None),
    )
