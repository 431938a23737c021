"""Threads that compute together."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from threading import Lock

from gradwire_server import cores


class Threads:
    """The threads of a process that compute at a time, those of callers and those that help them.

    A caller never waits for a helper to come: it does alone what nobody helps it with.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._helpers = ThreadPoolExecutor(max(1, self.count - 1), "gradwire-helper")
        self._lock = Lock()
        self._computing = 0

    @contextmanager
    def caller(self) -> Iterator[None]:
        """Count the thread that comes here as one that computes."""
        if self._process != os.getpid():
            # A fork has no threads but the one that made it.
            self._start()
        with self._lock:
            self._computing += 1
        try:
            yield
        finally:
            with self._lock:
                self._computing -= 1

    def help(self, parts: list[Callable[[], None]]) -> list[Future[None]]:
        """Have as many of the parts done by other threads as are free; each may find nothing left to do."""
        with self._lock:
            free = min(len(parts), self.count - self._computing)
        futures = []
        for part in parts[: max(0, free)]:
            try:
                futures.append(self._helpers.submit(self._counted, part))
            except RuntimeError:
                # Python is about to end, and starts no threads any more.
                break
        return futures

    def _counted(self, part: Callable[[], None]) -> None:
        with self.caller():
            part()


ONE = Threads(1)
"""Nobody helps."""


@cache
def of_process() -> Threads:
    """One for each core that it may use, for whoever has no settings."""
    return Threads(cores.usable())
