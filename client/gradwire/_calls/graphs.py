"""Graphs that a client computes with: losses whose graphs are equal share what is known of them."""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from gradwire._calls.holders import LARGE_GRAPH, Holders
from gradwire.v1 import graph_pb2

MOST_GRAPHS = 256
"""Graphs that are kept apart from the losses that have them, at most; then all are forgotten."""


class Known:
    """What a client knows of a graph."""

    __slots__ = ("by_id", "holders", "program")

    def __init__(self, graph_bytes: int) -> None:
        self.by_id = b""
        """The part of a request that has the id of the graph, serialized; empty until a server has told it."""
        self.holders = Holders(graph_bytes)
        self.program: Any = None
        """What the engine in this process has made of it."""


class Graphs:
    """What is known of graphs, by what they are.

    A function that is defined at the call, such as a lambda in a loop, is traced at each: only that shows what the
    globals, closures and random numbers behind it are by then. But where it gives a graph that was there before, no
    server is told of it again.
    """

    def __init__(self) -> None:
        self._known: dict[bytes, Known] = {}

    def known(self, graph: graph_pb2.Graph) -> Known:
        """What is known of a graph, which may be of another loss too; nothing yet of a large one."""
        nbytes = graph.ByteSize()
        if nbytes > LARGE_GRAPH:
            return Known(nbytes)
        key = blake2b(graph.SerializeToString(deterministic=True), digest_size=32).digest()
        found = self._known.get(key)
        if found is None:
            if len(self._known) >= MOST_GRAPHS:
                self._known.clear()
            found = self._known.setdefault(key, Known(nbytes))
        return found
