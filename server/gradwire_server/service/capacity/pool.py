"""Threads for work that would hold up the event loop, and who has them next."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Hashable
from concurrent.futures import Future
from dataclasses import dataclass, field
from heapq import heapify, heappop, heappush
from itertools import count
from math import inf
from threading import Condition, Lock, Thread
from time import monotonic, thread_time
from typing import Any

TIERS = (0.05, 0.5, 5.0)
"""Seconds of work, as estimated, up to which it is in each tier; what is longer is in one more. Work waits for none of
a longer tier."""


MAX_TURNS = 1000
"""Callers whose turns are kept, but for those who wait."""

_NOTHING = (inf,) * len(TIERS)
"""From when a thread without work is at something longer than each tier."""


@dataclass(order=True, slots=True)
class _Item:
    """Work that waits."""

    turn: float
    """Virtual time at which it would be done if all callers had been served a little at a time."""
    number: int
    """Decides between equal turns."""
    caller: Hashable = field(compare=False)
    cost: float = field(compare=False)
    tier: int = field(compare=False)
    work: Callable[[], Any] = field(compare=False)
    future: Future[Any] = field(compare=False)


class FairPool:
    """Threads that callers share fairly, however much work each of them has and however long it takes.

    Self-clocked fair queueing (Golestani 1994): the cost of a caller's work, as estimated, puts off the turn of what
    that caller brings next, and of nobody else's; so does what it took beyond that. Work that runs is not interrupted;
    so there is one thread more than are to compute for each tier but the longest. It takes work of its tier, or of
    shorter ones, for which there is a thread even if all others, but those for shorter tiers, are at something longer.
    While they are not, it rests: the processors are for as many computations as there are to be, and for taking calls.
    """

    def __init__(self, threads: int) -> None:
        self._lock = Lock()
        self._any, self._ended = Condition(self._lock), Condition(self._lock)
        """Where threads that take any work wait, and where whoever waits for the end does."""
        self._alone = [Condition(self._lock) for _ in TIERS]
        """The thread for each tier waits for its own."""
        self._looks = [-inf for _ in TIERS]
        """When each of these looks for work by itself; at once, while it does not wait."""
        self._free = 0
        """Threads that take any work and have none, nor were called."""
        self._longer = [_NOTHING] * (threads + len(TIERS))
        """From when what each thread is at is longer than each tier, whatever the estimate: those that take any work,
        and then the others, that for the longest tier first."""
        self._queues: list[list[_Item]] = [[] for _ in range(len(TIERS) + 1)]
        """Items that wait, by tier."""
        self._cancelled = 0
        """Items in the queues, at most, that nobody waits for any more."""
        self._now = 0.0
        """Virtual time: the turn of what was begun last."""
        self._turns: dict[Hashable, float] = {}
        """Callers, each with the turn of what it brought last."""
        self._numbers = count()
        self._running = 0
        self._closed = False
        for number in range(len(self._longer)):
            tier = len(TIERS) - 1 - max(-1, number - threads)
            Thread(target=self._work, args=(number, tier), name=f"gradwire-{number}", daemon=True).start()

    def submit(self, caller: Hashable, cost: float, work: Callable[[], Any]) -> Future[Any]:
        """Have work done that takes about ``cost`` seconds, when it is the caller's turn."""
        future: Future[Any] = Future()
        tier = bisect_left(TIERS, cost)
        with self._lock:
            if len(self._turns) > MAX_TURNS:
                self._turns = {other: turn for other, turn in self._turns.items() if turn > self._now}
            turn = self._turns[caller] = max(self._now, self._turns.get(caller, 0)) + cost
            heappush(self._queues[tier], _Item(turn, next(self._numbers), caller, cost, tier, work, future))
            if self._free:
                self._free -= 1
                self._any.notify()
            else:
                self._call()
        future.add_done_callback(self._forget)
        return future

    def close(self, seconds: float) -> bool:
        """Begin nothing any more, and wait for what runs, no longer than that; False if something still does."""
        with self._lock:
            self._closed = True
            for condition in (self._any, *self._alone):
                condition.notify_all()
            return self._ended.wait_for(lambda: not self._running, max(0, seconds))

    def _forget(self, future: Future[Any]) -> None:
        """Keep nothing of what was cancelled while it waited."""
        if not future.cancelled():
            return
        with self._lock:
            self._cancelled += 1
            if 2 * self._cancelled > sum(map(len, self._queues)):
                self._cancelled = 0
                for queue in self._queues:
                    queue[:] = [item for item in queue if not item.future.cancelled()]
                    heapify(queue)

    def _work(self, number: int, tier: int) -> None:
        while (item := self._next(number, tier)) is not None:
            caller, excess = item.caller, 0.0
            if item.future.set_running_or_notify_cancel():
                begun = thread_time()
                try:
                    result = item.work()
                except BaseException as error:  # noqa: BLE001  (whoever waits for it raises it)
                    item.future.set_exception(error)
                else:
                    item.future.set_result(result)
                    del result
                excess = thread_time() - begun - item.cost
            # Holds nothing while it waits for more.
            del item
            with self._lock:
                if excess > TIERS[0]:
                    self._put_off(caller, excess)
                self._running -= 1
                self._ended.notify_all()

    def _put_off(self, caller: Hashable, seconds: float) -> None:
        """Have the turns of a caller come so much later."""
        self._turns[caller] = max(self._now, self._turns.get(caller, 0)) + seconds
        for queue in self._queues:
            for item in queue:
                if item.caller == caller:
                    item.turn += seconds
            heapify(queue)

    def _next(self, number: int, tier: int) -> _Item | None:
        """What a thread does next that takes work of up to this tier."""
        with self._lock:
            self._longer[number] = _NOTHING
            while not self._closed:
                now = monotonic()
                due = self._due(tier)
                queues = [queue for queue, start in due if start <= now]
                if queues:
                    item = heappop(min(queues, key=lambda queue: queue[0]))
                    self._running += 1
                    self._now = max(self._now, item.turn)
                    self._longer[number] = tuple(
                        now + (seconds if item.tier <= other else 0) for other, seconds in enumerate(TIERS)
                    )
                    self._call()
                    return item
                if tier == len(TIERS):
                    self._free += 1
                    self._any.wait()
                else:
                    self._looks[tier] = start = min((start for _, start in due), default=inf)
                    self._alone[tier].wait(None if start == inf else start - now)
                    self._looks[tier] = -inf
            return None

    def _due(self, tier: int) -> list[tuple[list[_Item], float]]:
        """What waits that a thread may take which takes work of up to this tier, and from when on."""
        if tier == len(TIERS):
            return [(queue, -inf) for queue in self._queues if queue]
        others = self._longer[: len(self._longer) - 1 - tier]
        queues = enumerate(self._queues[: tier + 1])
        return [(queue, max(longer[own] for longer in others)) for own, queue in queues if queue]

    def _call(self) -> None:
        """Have the threads for tiers look that are needed sooner than they would."""
        for tier, condition in enumerate(self._alone):
            if any(start < self._looks[tier] for _, start in self._due(tier)):
                condition.notify()
