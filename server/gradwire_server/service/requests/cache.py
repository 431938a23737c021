"""Prepared graphs, kept for later requests."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from math import inf
from threading import Lock

from gradwire_server.engine import Program


@dataclass(frozen=True, slots=True)
class _Entry:
    program: Program
    nbytes: int
    size: int
    """Nodes and operands together."""
    digest: bytes
    several: bool
    """Whether graphs of this id came that number their nodes differently."""


class ProgramCache:
    """Programs by id, bounded in bytes; the least recently used ones go first. Safe to share among threads.

    A program can also be found by a digest of the graph as it came, so that a graph sent inline again and again
    is compiled once. The digest is no identity (the same graph has many encodings): the id is the engine's.
    """

    def __init__(self, max_bytes: int) -> None:
        self.max_bytes = max_bytes
        self._lock = Lock()
        self._entries: OrderedDict[str, _Entry] = OrderedDict()
        self._ids: dict[bytes, str] = {}
        """Ids by digest: one digest for each program, the latest."""
        self._nbytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    @property
    def nbytes(self) -> int:
        """Bytes of all programs kept, as they estimate them."""
        return self._nbytes

    def get(self, graph_id: str, largest: float = inf, *, numbered: bool = False) -> Program | None:
        """The program of this id, if it is kept and has at most so many nodes and operands together.

        With ``numbered`` nodes are asked for by their numbers, which must be the same in all graphs of the id.
        """
        with self._lock:
            return self._get(graph_id, largest, numbered=numbered)

    def _get(self, graph_id: str, largest: float, *, numbered: bool = False) -> Program | None:
        entry = self._entries.get(graph_id)
        if entry is None or entry.size > largest or (numbered and entry.several):
            return None
        self._entries.move_to_end(graph_id)
        return entry.program

    def find(self, digest: bytes, largest: float = inf) -> Program | None:
        """The program that was last put with this digest, under the same conditions."""
        # An id has one digest, that of the graph whose numbers the program has.
        with self._lock:
            graph_id = self._ids.get(digest)
            return None if graph_id is None else self._get(graph_id, largest)

    def put(self, program: Program, digest: bytes) -> bool:
        """Keep a program; False if it alone is larger than the cache."""
        nbytes = program.nbytes
        if nbytes > self.max_bytes:
            return False
        with self._lock:
            known = self._entries.get(program.graph_id)
            several = known is not None and (known.several or known.program.numbering != program.numbering)
            entry = _Entry(program, nbytes, program.size, digest, several)
            self._remove(program.graph_id)
            self._entries[program.graph_id] = entry
            self._nbytes += entry.nbytes
            self._ids[digest] = program.graph_id
            while self._nbytes > self.max_bytes:
                self._remove(next(iter(self._entries)))
        return True

    def _remove(self, graph_id: str) -> None:
        entry = self._entries.pop(graph_id, None)
        if entry is None:
            return
        self._nbytes -= entry.nbytes
        self._ids.pop(entry.digest, None)
