"""Threads for work that would hold up the event loop, and who has them next."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from functools import partial
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from threading import Condition, Lock, Thread
from time import monotonic
from typing import Any

SHORT_SECONDS = 0.05
"""Seconds of work, as estimated, that never waits for work that takes longer."""


MAX_TURNS = 1000
"""Callers whose turns are kept, but for those who wait."""


@dataclass(order=True, slots=True)
class _Item:
    """Work that waits."""

    turn: float
    """Virtual time at which it would be done if all callers had been served a little at a time."""
    number: int
    """Decides between equal turns."""
    short: bool = field(compare=False)
    work: Callable[[], Any] = field(compare=False)
    future: Future[Any] = field(compare=False)


class FairPool:
    """Threads that callers share fairly, however much work each of them has and however long it takes.

    Self-clocked fair queueing (Golestani 1994): the cost of a caller's work, as estimated, puts off the turn of what
    that caller brings next, and of nobody else's. Work that runs is not interrupted; so one thread more than are to
    compute takes short work alone, for which there is a thread even if all others are at something long. While they
    are not, it rests: the processors are for as many computations as there are to be, and for taking calls.
    """

    def __init__(self, threads: int) -> None:
        self._lock = Lock()
        self._any, self._short_alone, self._ended = Condition(self._lock), Condition(self._lock), Condition(self._lock)
        """Of threads that take any work, of the one that takes short work, and of who waits for the end."""
        self._free = 0
        """Threads that take any work and have none, nor were called."""
        self._long_from = [inf] * threads
        """When what each of these is at is something long, whatever the estimate; never, for a thread without work."""
        self._watching = False
        """Whether the thread for short work is to look at that again by itself."""
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
            Thread(target=self._work, args=(number,), name=f"gradwire-{number}", daemon=True).start()

    def submit(self, caller: Hashable, cost: float, work: Callable[[], Any]) -> Future[Any]:
        """Have work done that takes about ``cost`` seconds, when it is the caller's turn."""
        future: Future[Any] = Future()
        short = cost <= SHORT_SECONDS
        with self._lock:
            if len(self._turns) > MAX_TURNS:
                self._turns = {other: turn for other, turn in self._turns.items() if turn > self._now}
            turn = self._turns[caller] = max(self._now, self._turns.get(caller, 0)) + cost
            heappush(self._short if short else self._long, _Item(turn, next(self._numbers), short, work, future))
            if self._free:
                self._free -= 1
                self._any.notify()
            else:
                self._watch()
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

    def _watch(self) -> None:
        """Have the thread for short work look whether it is needed."""
        if self._short and (not self._watching or max(self._long_from) <= monotonic()):
            self._short_alone.notify()

    def _work(self, number: int) -> None:
        take = self._next_short if number == len(self._long_from) else partial(self._next, number)
        while (item := take()) is not None:
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

    def _next(self, number: int) -> _Item | None:
        with self._lock:
            self._long_from[number] = inf
            while not self._closed:
                queues = [queue for queue in (self._short, self._long) if queue]
                if queues:
                    item = self._begun(min(queues, key=lambda queue: queue[0]))
                    self._long_from[number] = monotonic() + (SHORT_SECONDS if item.short else 0)
                    self._watch()
                    return item
                self._free += 1
                self._any.wait()
            return None

    def _next_short(self) -> _Item | None:
        with self._lock:
            while not self._closed:
                seconds = max(self._long_from) - monotonic()
                if self._short and seconds <= 0:
                    return self._begun(self._short)
                self._watching = bool(self._short) and seconds < inf
                self._short_alone.wait(seconds if self._watching else None)
                self._watching = False
            return None

    def _begun(self, queue: list[_Item]) -> _Item:
        item = heappop(queue)
        self._running += 1
        self._now = max(self._now, item.turn)
        return item
