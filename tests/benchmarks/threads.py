"""Two threads on one large batch, against two independent processes of one thread each."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from gradwire.v1 import graph_pb2 as pb
from tests.benchmarks.random_graphs import SOURCES, packed, recipe
from tests.benchmarks.running import alone, evaluation, prepare
from tests.benchmarks.table import Row, rows
from tests.benchmarks.timing import Call, contest, in_turns

NODES, EXAMPLES = 300, 20_000


def compare() -> Iterator[Row]:
    """Time of a batch: with two threads, and half of what two processes take that run at the same time."""
    one, two = partial(_engine, 1), partial(_engine, 2)
    with contest({"two threads": two, "one thread": one, "another": one}) as rivals:
        first, second = rivals["one thread"], rivals["another"]

        def together() -> float:
            first.begin()
            second.begin()
            return (first.end() + second.end()) / 4

        turns = {"two threads": rivals["two threads"].run, "one thread": first.run, "two processes": together}
        timings = in_turns(turns, 15)
    work = f"scalar graph, {NODES} nodes x {EXAMPLES:,} examples"
    yield from rows(work, timings, "two threads", {"two processes": 0.9, "one thread": None})


def _engine(threads: int) -> Call:
    alone()
    random = np.random.default_rng(0)
    sources = [
        pb.Node(name="x", input=pb.Input(shape=[SOURCES // 2], per_example=True)),
        pb.Node(name="w", parameter=pb.Parameter(shape=[SOURCES // 2])),
    ]
    arrays = {"x": random.normal(size=(EXAMPLES, SOURCES // 2)), "w": random.normal(size=SOURCES // 2)}
    call = evaluation(prepare(packed(recipe(NODES), sources)), arrays, threads=threads)

    def ours() -> tuple[Any, Any]:
        result = call()
        return result.loss, result.gradients["w"]

    return ours
