"""What belongs to an event loop, for clients that several loops use."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from threading import Lock
from typing import Generic, TypeVar

T = TypeVar("T")


class PerLoop(Generic[T]):
    """One thing for each event loop, made when the loop first asks for it. Safe to share among threads."""

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._lock = Lock()
        self._made: dict[asyncio.AbstractEventLoop, T] = {}

    def get(self) -> T:
        """The thing of the loop that runs here."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if loop not in self._made:
                # ``asyncio.run`` makes a loop each time: what closed ones had is let go.
                self._made = {other: thing for other, thing in self._made.items() if not other.is_closed()}
                self._made[loop] = self._make()
            return self._made[loop]

    def pop_all(self) -> dict[asyncio.AbstractEventLoop, T]:
        """The things of all loops, which are forgotten here."""
        with self._lock:
            made, self._made = self._made, {}
        return made
