"""The engine alone, without a wire."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from gradwire.v1 import graph_pb2 as pb
from gradwire_server import codec, engine

LIMITS = engine.Limits(max_nodes=4_000_000, max_edges=16_000_000, max_memory_bytes=16 << 30)


def nobody_waits() -> None:
    """The checkpoint of a call that nobody cancels."""


def prepare(graph: pb.Graph) -> engine.Program:
    """A program, from the graph as the wire has it."""
    return engine.compile_graph(codec.decode_graph(graph, LIMITS), LIMITS)


def evaluation(
    program: engine.Program, arrays: Mapping[str, Any], dtype: type = np.float64, **query: Any
) -> Callable[[], engine.Evaluation]:
    """The engine on these arrays; checking the request is part of the call."""
    asked = engine.Query(arrays=arrays, dtype=np.dtype(dtype), **query)
    return lambda: engine.run(engine.bind(program, asked, LIMITS), nobody_waits)
