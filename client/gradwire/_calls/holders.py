"""Whether a call names its graph by the id or brings it along, where calls take turns among several servers."""

from __future__ import annotations

from threading import Lock

LONGEST_RUN = 1024
"""Calls in a row that bring their graph, at most, before the id is tried again."""

TRUSTED = 64
"""Allowed calls by id, beyond those under way, from which on all servers count as holders."""

PATIENCE = 64
"""Calls that bring their graph before a call by id counts as given up, such as with its task."""

LARGE_GRAPH = 1 << 20
"""Bytes of a graph that no call brings along before a server has lacked it."""


class Holders:
    """What the calls of one graph tell of whether the servers at a target hold it. Safe to share among threads.

    A server holds the graphs that it was sent, and a balancer gives each call to another server. So after a NOT_FOUND
    the next call brings its graph, after another one the next two, then four and so on: each teaches one server more.
    Calls that overlap would all fail together: by id go one, and two more for each that is answered.
    """

    def __init__(self, graph_bytes: int) -> None:
        self._lock = Lock()
        self._round = 0
        """Times that a server lacked the graph; calls of an earlier round tell nothing new."""
        self._run = 0
        """Calls that brought the graph after the last of these times."""
        self._allowed = TRUSTED if graph_bytes > LARGE_GRAPH else 1
        """Calls that may go by id now."""
        self._until_next = PATIENCE
        """Calls that bring the graph until another one may go by id."""
        self._is_trusted = False
        """Whether so many calls by id were answered in this round that nobody counts them any more."""

    def by_id(self) -> int | None:
        """The round of a call that goes by id, for ``answered`` or ``missed``; None for one that brings its graph."""
        asked = self._round  # before the question, so that it is over if a call is missed meanwhile
        if self._is_trusted:
            return asked
        with self._lock:
            if self._allowed:
                self._allowed -= 1
                return self._round
            self._until_next -= 1
            if self._until_next <= 0:
                self._allowed, self._until_next = 1, PATIENCE
            return None

    def answered(self, asked: int, *, found: bool) -> None:
        """A call by id of this round has ended; ``found`` says that its server held the graph."""
        if self._is_trusted:
            return
        with self._lock:
            if asked == self._round:
                self._allowed += 2 if found else 1
                if self._allowed > TRUSTED:
                    self._run, self._is_trusted = 0, True

    def missed(self, asked: int) -> None:
        """A call by id of this round has reached a server that lacks the graph."""
        with self._lock:
            if asked == self._round:
                self._is_trusted = False
                self._round += 1
                self._run = min(2 * self._run or 1, LONGEST_RUN)
                self._allowed, self._until_next = 0, self._run
