"""Threads for work that would hold up the event loop, and who has them next."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from threading import Condition, Lock, Thread
from typing import Any

SHORT_SECONDS = 0.05
"""Estimated seconds of work that never waits for work that takes longer."""


MAX_TURNS = 1000
"""Callers whose turns are kept, but for those who wait."""


@dataclass(order=True, slots=True)
class _Item:
    """Work that waits."""

    turn: float
    """Virtual time at which it would be done if all callers had been served a little at a time."""
    number: int
    """Decides between equal turns."""
    work: Callable[[], Any] = field(compare=False)
    future: Future[Any] = field(compare=False)


class FairPool:
    """Threads that callers share fairly, however much work each of them has and however long it takes.

    Self-clocked fair queueing (Golestani 1994): the cost of a caller's work, as estimated, puts off the turn of what
    that caller brings next, and of nobody else's. Work that runs is not interrupted; so one thread more than are to
    compute takes short work alone, for which there is a thread even if all others are at something long.
    """

    def __init__(self, threads: int) -> None:
        self._lock = Lock()
        self._any, self._short_alone, self._ended = Condition(self._lock), Condition(self._lock), Condition(self._lock)
        """Of threads that take any work, of the one that takes short work, and of who waits for the end."""
        self._free = 0
        """Threads that take any work and have none, nor were called."""
        self._short: list[_Item] = []
        self._long: list[_Item] = []
        self._cancelled = 0
        """Items in the queues, at most, that nobody waits for any more."""
        self._now = 0.0
        """Virtual time: the turn of what was begun last."""
        self._turns: dict[Hashable, float] = {}
        """Of each caller, the turn of what it brought last."""
        self._numbers = count()
        self._running = 0
        self._closed = False
        for number in range(threads + 1):
            Thread(target=self._work, args=(number == threads,), name=f"gradwire-{number}", daemon=True).start()

    def submit(self, caller: Hashable, cost: float, work: Callable[[], Any]) -> Future[Any]:
        """Have work done that takes about ``cost`` seconds, when it is the caller's turn."""
        future: Future[Any] = Future()
        short = cost <= SHORT_SECONDS
        with self._lock:
            if len(self._turns) > MAX_TURNS:
                self._turns = {other: turn for other, turn in self._turns.items() if turn > self._now}
            turn = self._turns[caller] = max(self._now, self._turns.get(caller, 0)) + cost
            heappush(self._short if short else self._long, _Item(turn, next(self._numbers), work, future))
            if self._free:
                self._free -= 1
                self._any.notify()
            elif short:
                self._short_alone.notify()
        future.add_done_callback(self._forget)
        return future

    def close(self, seconds: float) -> bool:
        """Begin nothing any more, and wait for what runs, no longer than that; False if something still does."""
        with self._lock:
            self._closed = True
            self._any.notify_all()
            self._short_alone.notify_all()
            return self._ended.wait_for(lambda: not self._running, max(0, seconds))

    def _forget(self, future: Future[Any]) -> None:
        """Keep nothing of what was cancelled while it waited."""
        if not future.cancelled():
            return
        with self._lock:
            self._cancelled += 1
            if 2 * self._cancelled > len(self._short) + len(self._long):
                self._cancelled = 0
                for queue in (self._short, self._long):
                    queue[:] = [item for item in queue if not item.future.cancelled()]
                    heapify(queue)

    def _work(self, short_alone: bool) -> None:
        while (item := self._next(short_alone=short_alone)) is not None:
            if item.future.set_running_or_notify_cancel():
                try:
                    result = item.work()
                except BaseException as error:  # noqa: BLE001  (whoever waits for it raises it)
                    item.future.set_exception(error)
                else:
                    item.future.set_result(result)
                    del result
            # Holds nothing while it waits for more.
            del item
            with self._lock:
                self._running -= 1
                self._ended.notify_all()

    def _next(self, *, short_alone: bool) -> _Item | None:
        with self._lock:
            while not self._closed:
                queues = [queue for queue in (self._short, None if short_alone else self._long) if queue]
                if queues:
                    item = heappop(min(queues, key=lambda queue: queue[0]))
                    self._running += 1
                    self._now = max(self._now, item.turn)
                    return item
                if short_alone:
                    self._short_alone.wait()
                else:
                    self._free += 1
                    self._any.wait()
            return None
