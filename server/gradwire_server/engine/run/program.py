"""A graph that requests run: checked facts, and what was made for requests so far."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from hashlib import sha256
from threading import Lock
from typing import Any, NamedTuple

import numpy as np

from gradwire_server.engine.checkpoints import Checkpoint, unhurried
from gradwire_server.engine.graph.checking import Checked, Source, check_graph
from gradwire_server.engine.graph.graph import Array, Graph
from gradwire_server.engine.lowering.code import Code
from gradwire_server.engine.lowering.lower import lower
from gradwire_server.engine.lowering.question import Question
from gradwire_server.engine.run.facts import Facts
from gradwire_server.engine.run.query import Asked, Expected
from gradwire_server.errors import Reason, refuse
from gradwire_server.limits import Limits

CODES, CODED_BYTES = 16, 1 << 20
"""Codes that a program keeps, and bytes that these take together unless two alone take more."""

BOUNDS, BOUND_SOURCES = 8, 1 << 14
"""Kinds of requests that a program knows, and sources that these have together unless two alone have more."""

PROGRAM_BYTES, NODE_BYTES, EDGE_BYTES, ATTRIBUTES_BYTES, SOURCE_BYTES = 20_000, 60, 12, 400, 1100
"""Rough memory of a program, of a node, of an edge, and of what a node with attributes and a source take besides."""

CODE_BYTES, BOUND_BYTES, BOUND_SOURCE_BYTES = 2000, 10_000, 900
"""Rough memory of a code besides its numbers, of a kind of requests, and of each source in it."""


class Known(NamedTuple):
    """Requests that ask the same, of any number of examples."""

    expected: Expected
    wrt: tuple[Source, ...]
    bounds: dict[int, Any]
    """By the number of examples."""


class Program:
    """A checked graph with code and rooms of its requests; safe to share among threads."""

    def __init__(self, checked: Checked) -> None:
        self.checked = checked
        self.facts = Facts(checked)
        self.nodes = len(checked)
        self.lanes_loss = bool(checked.per_example[checked.graph.loss])
        """Whether the loss depends on examples."""
        self.bounds: dict[object, Any] = {}
        """Kinds of requests that are known."""
        self.known: dict[object, Known] = {}
        """What was found of requests that ask the same."""
        self._codes: dict[Question, Code] = {}
        self._coded = 0
        """Bytes of codes."""
        self._first = 0
        """Bytes of the first one."""
        self._lock = Lock()

    @property
    def graph_id(self) -> str:
        """SHA-256 of the canonical form."""
        return self.checked.graph_id

    @property
    def sources(self) -> tuple[Source, ...]:
        """What requests supply, in the order of nodes."""
        return self.checked.sources

    @cached_property
    def numbering(self) -> bytes:
        """A digest of how nodes were numbered when they were sent, which graphs of one id may do differently."""
        graph = self.checked.graph
        columns: list[Array] = [graph.opcodes, graph.starts, graph.operands, graph.numbers]
        columns += [] if graph.origins is None else [graph.origins.nodes]
        return sha256(b"".join(sha256(column.tobytes()).digest() for column in columns)).digest()

    @property
    def size(self) -> int:
        """Nodes and operands together."""
        return self.nodes + len(self.checked.graph.operands)

    def integer(self, node: int, arrays: Mapping[str, Array]) -> Array:
        """A copy of the row indices that a node is."""
        content = self.checked.graph.contents[node]
        return np.array(content if isinstance(content, np.ndarray) else arrays[content.name])

    def code(self, question: Question, checkpoint: Checkpoint) -> Code:
        """The code of a question; raises what ``checkpoint`` raises."""
        code = self._codes.get(question)
        if code is None:
            code = lower(self.checked, question, checkpoint)
            with self._lock:
                own = CODE_BYTES + code.nbytes
                self._first = self._first or own
                if len(self._codes) >= CODES or self._coded + own > self._most:
                    self._codes.clear()
                    self.bounds.clear()
                    self.known.clear()
                    self._coded = 0
                self._codes[question] = code
                self._coded += own
        return code

    def keep(self, key: object, bound: object) -> None:
        """Know a kind of request."""
        with self._lock:
            if len(self.bounds) >= self._kinds:
                self.bounds.clear()
                self.known.clear()
            self.bounds[key] = bound

    def know(self, kind: object, asked: Asked, dtype: np.dtype[np.floating], bound: object) -> None:
        """Know a request that fits, so that the next one like it is bound at once."""
        known = self.known.get(kind)
        if known is None or len(known.bounds) >= BOUNDS:
            known = Known(Expected(self.checked.sources, dtype), asked.wrt, {})
            with self._lock:
                if len(self.known) >= BOUNDS:
                    self.known.clear()
                self.known[kind] = known
        known.bounds[asked.examples] = bound

    @property
    def _most(self) -> int:
        """Bytes that codes take at most, unless one alone takes more."""
        return min(CODES * self._first, max(2 * self._first, CODED_BYTES))

    @property
    def _kinds(self) -> int:
        """How many kinds of requests are known at most."""
        return max(2, min(BOUNDS, BOUND_SOURCES // max(1, len(self.sources))))

    @property
    def nbytes(self) -> int:
        """Estimate of the memory that keeping the program takes, in bytes; higher once there is code."""
        graph, sources = self.checked.graph, len(self.sources)
        contents = sum(content.nbytes for content in graph.contents.values() if isinstance(content, np.ndarray))
        own = NODE_BYTES * len(graph) + EDGE_BYTES * len(graph.operands) + ATTRIBUTES_BYTES * len(graph.attributes)
        kinds = self._kinds * (BOUND_BYTES + BOUND_SOURCE_BYTES * sources)
        return PROGRAM_BYTES + own + contents + SOURCE_BYTES * sources + kinds + self._most


def compile_graph(
    graph: Graph, limits: Limits, checkpoint: Checkpoint = unhurried, max_cache_bytes: int | None = None
) -> Program:
    """Check a graph and prepare it; ``checkpoint`` is called now and then and may raise.

    Raises:
        Refusal: with every finding (INVALID_GRAPH, LIMIT_EXCEEDED). Whatever ``checkpoint`` raises.
    """
    program = Program(check_graph(graph, limits, checkpoint))
    _check_size(program, max_cache_bytes)
    # So that the first request finds it.
    program.code(Question(tuple(source.node for source in program.facts.parameters), (), False), checkpoint)
    _check_size(program, max_cache_bytes)
    return program


def _check_size(program: Program, most: int | None) -> None:
    nbytes = program.nbytes
    if most is not None and nbytes > most:
        raise refuse(
            Reason.LIMIT_EXCEEDED,
            f"the prepared graph takes about {nbytes} bytes; this server keeps at most {most} "
            "(max_cache_bytes); send it with each request, for which it need not be kept, or a smaller one",
            found=nbytes,
            limit=most,
            setting="max_cache_bytes",
        )
