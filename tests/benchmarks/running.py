"""The engine alone, without a wire."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from gradwire.v1 import graph_pb2 as pb
from gradwire_server import codec, engine

LIMITS = engine.Limits(max_nodes=4_000_000, max_edges=16_000_000, max_memory_bytes=16 << 30)


def nobody_waits() -> None:
    """The checkpoint of a call that nobody cancels."""


def prepare(graph: pb.Graph) -> engine.Program:
    """A program, from the graph as the wire has it."""
    return engine.compile_graph(codec.decode_graph(graph, LIMITS), LIMITS)


def evaluation(
    program: engine.Program,
    arrays: Mapping[str, Any],
    dtype: type = np.float64,
    threads: int = os.cpu_count() or 1,
    **query: Any,
) -> Callable[[], engine.Evaluation]:
    """The engine on these arrays, as a server runs it; checking the request is part of the call."""
    asked = engine.Query(arrays=arrays, dtype=np.dtype(dtype), **query)
    helpers = engine.Threads(threads)

    def call() -> engine.Evaluation:
        return engine.run(engine.bind(program, asked, LIMITS, threads), nobody_waits, helpers)

    return call


def bound(program: engine.Program, arrays: Mapping[str, Any]) -> Callable[[], engine.Evaluation]:
    """The same in doubles for a request that is checked once, as peers are whose functions are bound to buffers."""
    threads = os.cpu_count() or 1
    job = engine.bind(program, engine.Query(arrays=arrays, dtype=np.dtype(np.float64)), LIMITS, threads)
    helpers = engine.Threads(threads)
    return lambda: engine.run(job, nobody_waits, helpers)


def alone() -> None:
    """Give BLAS one thread, as a server does. It holds for the process, so peers that use BLAS have another."""
    threadpool_limits(1, user_api="blas")
