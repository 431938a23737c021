"""Plans that are kept, and who waits for one that somebody else makes."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier, Event

import pytest

from gradwire_server.engine.plan import Plan
from gradwire_server.engine.plans import Plans
from tests.unit.engine.graphs import Builder, nothing


def a_plan() -> Plan:
    builder = Builder()
    builder.op("tanh", builder.parameter("x"))
    return builder.program().plan((0,), (), separate=False, checkpoint=nothing)


def never() -> Plan:
    raise AssertionError


def test_the_least_recently_used_go_first() -> None:
    plans, made = Plans(2), {key: a_plan() for key in "abc"}

    def of(key: str) -> Callable[[], Plan]:
        return lambda: made[key]

    for key in "abac":
        assert plans.get(key, of(key), nothing) is made[key]
    assert plans.get("a", never, nothing) is made["a"]
    with pytest.raises(AssertionError):
        plans.get("b", never, nothing)


def test_many_who_ask_for_one_at_a_time_have_it_made_once() -> None:
    plans, together, made = Plans(1), Barrier(8), []

    def make() -> Plan:
        made.append(a_plan())
        return made[-1]

    def ask(_: int) -> Plan:
        together.wait()
        return plans.get("a", make, nothing)

    with ThreadPoolExecutor(8) as threads:
        assert list(threads.map(ask, range(8))) == made * 8


def test_who_waits_for_the_plans_of_others_may_give_up() -> None:
    plans, begun, goes_on = Plans(1), Event(), Event()

    def make() -> Plan:
        begun.set()
        goes_on.wait()
        return a_plan()

    def gives_up() -> None:
        raise InterruptedError

    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(plans.get, "a", make, nothing)
        begun.wait()
        try:
            with pytest.raises(InterruptedError):
                plans.get("b", never, gives_up)
        finally:
            goes_on.set()
        assert plans.get("a", never, nothing) is first.result()
