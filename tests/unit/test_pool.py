"""Who has a thread next."""

from __future__ import annotations

import weakref
from collections.abc import Iterator
from concurrent.futures import Future, wait
from contextlib import contextmanager
from functools import partial
from threading import Event
from time import thread_time

import pytest

from gradwire_server.service.capacity.pool import TIERS, FairPool

SHORT, LONG = TIERS[0], 2 * TIERS[-1]


@contextmanager
def busy(pool: FairPool, threads: int = 1) -> Iterator[None]:
    """Its threads for any work are at something long while in the block."""
    gate, begun = Event(), [Event() for _ in range(threads)]

    def hold(event: Event) -> None:
        event.set()
        gate.wait()

    held = [pool.submit("holder", LONG, partial(hold, event)) for event in begun]
    for event in begun:
        event.wait()
    try:
        yield
    finally:
        gate.set()
        wait(held)


def test_callers_take_turns_however_much_each_brings() -> None:
    pool = FairPool(1)
    order: list[str] = []
    with busy(pool):
        futures = [pool.submit("a", LONG, partial(order.append, f"a{i}")) for i in range(4)]
        futures += [pool.submit("b", LONG, partial(order.append, f"b{i}")) for i in range(2)]
        futures += [pool.submit("c", 3 * LONG, lambda: order.append("c"))]
    wait(futures)
    assert order == ["a0", "b0", "a1", "b1", "a2", "c", "a3"]


def test_what_work_takes_beyond_its_estimate_puts_its_caller_off(monkeypatch: pytest.MonkeyPatch) -> None:
    # All of it is long, and has one thread.
    monkeypatch.setattr("gradwire_server.service.capacity.pool.TIERS", (1e-6, 2e-6, 3e-6))
    pool = FairPool(1)
    order: list[str] = []

    def compute() -> None:
        end = thread_time() + 0.05
        while thread_time() < end:
            pass
        order.append("a")

    with busy(pool):
        futures = [pool.submit("a", 0.001, compute) for _ in range(3)]
        futures += [pool.submit("b", 0.01, partial(order.append, "b"))]
    wait(futures)
    assert order == ["a", "b", "a", "a"]


def test_a_caller_who_comes_later_waits_for_no_backlog_and_has_no_credit() -> None:
    pool = FairPool(1)
    order: list[str] = []
    first, gate = Event(), Event()

    def hold() -> None:
        first.set()
        gate.wait()

    with busy(pool):
        futures = [pool.submit("a", LONG, hold)]
        futures += [pool.submit("a", LONG, partial(order.append, f"a{i}")) for i in range(3)]
    first.wait()
    futures += [pool.submit("b", LONG, partial(order.append, f"b{i}")) for i in range(3)]
    gate.set()
    wait(futures)
    assert order == ["a0", "b0", "a1", "b1", "a2", "b2"]


def test_short_work_waits_for_no_long_work() -> None:
    pool = FairPool(2)
    with busy(pool, 2):
        waiting = pool.submit("a", LONG, str)
        assert [pool.submit("a", SHORT, partial(int, i)).result() for i in range(3)] == [0, 1, 2]
        assert not waiting.done()
    assert waiting.result() == ""


def hold(pool: FairPool, cost: float) -> Event:
    """Have it work for so long, as it is told, until the event is set."""
    begun, end = Event(), Event()

    def work() -> None:
        begun.set()
        end.wait()

    pool.submit("holder", cost, work)
    begun.wait()
    return end


def test_work_of_each_tier_waits_for_none_of_longer_ones() -> None:
    pool = FairPool(2)
    ends = [hold(pool, LONG), hold(pool, LONG)]
    # One of each tier, and while they run one of each shorter tier.
    for cost in reversed(TIERS):
        waiting = pool.submit("a", 1.01 * cost, str)
        ends.append(hold(pool, cost))
        assert not waiting.done()
        if cost != TIERS[-1]:
            waiting.cancel()
    last = pool.submit("a", SHORT, str)
    assert not last.done()
    ends.pop().set()
    assert last.result() == ""
    for end in ends:
        end.set()


def test_work_of_a_tier_has_one_thread_more_at_most(monkeypatch: pytest.MonkeyPatch) -> None:
    # So long that nothing comes to count as longer while the test runs.
    monkeypatch.setattr("gradwire_server.service.capacity.pool.TIERS", (1000.0, 2000.0, 3000.0))
    pool = FairPool(1)
    ends = [hold(pool, 10_000), hold(pool, 2000)]
    waiting = [pool.submit(name, 2000, ends[1].is_set) for name in "ab"]
    # That there is something shorter changes nothing.
    assert pool.submit("c", 1000, int).result() == 0
    ends[1].set()
    assert [future.result() for future in waiting] == [True, True]
    ends[0].set()


def test_what_work_raises_is_raised_by_its_future() -> None:
    pool = FairPool(1)
    assert isinstance(pool.submit("a", LONG, lambda: int("one")).exception(), ValueError)
    assert pool.submit("a", LONG, lambda: 1).result() == 1


def test_nothing_is_kept_of_what_was_cancelled() -> None:
    class Large:
        pass

    pool, kept = FairPool(1), []
    with busy(pool):
        for _ in range(10):
            large = Large()
            kept.append(weakref.ref(large))
            future: Future[int] = pool.submit("a", LONG, partial(id, large))
            del large
            future.cancel()
            del future
        assert [ref() for ref in kept] == [None] * 10


def test_closing_waits_for_what_runs_but_no_longer_than_it_may() -> None:
    pool = FairPool(1)
    with busy(pool):
        waiting = pool.submit("a", LONG, str)
        assert not pool.close(0)
    assert pool.close(60)
    assert not waiting.done()


def test_short_work_that_takes_longer_than_estimated_holds_up_no_other() -> None:
    pool = FairPool(1)
    gate, begun = Event(), Event()

    def hold() -> None:
        begun.set()
        gate.wait()

    first = pool.submit("a", 0, hold)
    second = pool.submit("b", 0, Event().set)
    begun.wait()
    # What takes longer than it was to is something long.
    second.result()
    assert not first.done()
    gate.set()
    first.result()
