"""Losses that are defined at the call, as in a loop of a notebook: traced at each, and not kept."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import gradwire as gw
from gradwire._calls.computation import Computation
from gradwire._calls.graphs import MOST_GRAPHS, Graphs, Known
from gradwire._calls.problem import Problem
from gradwire._calls.traced import MOST_FORMS

MANY = 10_000
"""Each is traced, which together takes a second or two."""

factor = 1.0


def problem(loss: Any, *given: Any, graphs: Graphs | None = None, **named: Any) -> Problem:
    computation = Computation(loss, graphs=graphs)
    return computation.prepared(computation.values(given, named))[0]


def known() -> int:
    """Graphs of which something is known, by any client."""
    gc.collect()
    return sum(type(one) is Known for one in gc.get_objects())


def test_equal_graphs_are_known_together_and_others_are_not() -> None:
    graphs = Graphs()
    first, second = (problem(lambda w, x: gw.sum(w * x), np.ones(3), x=np.ones(3), graphs=graphs) for _ in range(2))
    assert first.known is second.known
    for other in (
        problem(lambda w, x: gw.sum(w * x), np.ones(4), x=np.ones(4), graphs=graphs),
        problem(lambda w, x: gw.sum(w * x * 2), np.ones(3), x=np.ones(3), graphs=graphs),
        problem(lambda w, x: gw.sum(w * x), np.ones(3), x=np.ones(3), graphs=Graphs()),
    ):
        assert other.known is not first.known


def test_whatever_a_function_reads_counts_as_it_is_at_the_call(monkeypatch: Any) -> None:
    array, random = np.array([1.0, 2.0]), np.random.default_rng(0)
    with gw.connect("local") as client:

        def loss() -> Callable[..., Any]:
            return lambda w: gw.sum(w * array) * factor

        assert client.value_and_grad(loss())(np.ones(2))[0] == 3
        array[0] = 5.0
        assert client.value_and_grad(loss())(np.ones(2))[0] == 7
        monkeypatch.setitem(globals(), "factor", 2.0)
        assert client.value_and_grad(loss())(np.ones(2))[0] == 14
        drawn = {client.value_and_grad(lambda w: w * random.normal())(1.0)[0] for _ in range(5)}
    assert len(drawn) == 5


@pytest.mark.timeout(300)
def test_of_10_000_functions_among_the_arguments_few_are_kept() -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    seen = set()
    computation = Computation(lambda w, act: act(w), graphs=Graphs())
    for number in range(MANY):
        act = lambda w, number=number: w * number  # noqa: E731  (as users write it)
        alive.add(act)
        found, _, _ = computation.prepared(computation.values((1.0,), {"act": act}))
        seen.add(found.graph.SerializeToString())
    del act
    gc.collect()
    assert len(seen) == MANY
    assert 0 < len(alive) <= MOST_FORMS


def test_of_2_000_losses_none_is_kept_and_of_their_graphs_few() -> None:
    alive: weakref.WeakSet[Any] = weakref.WeakSet()
    graphs, before = Graphs(), known()
    for number in range(2_000):
        loss = lambda w, number=number: w * number  # noqa: E731  (as above)
        alive.add(loss)
        problem(loss, 1.0, graphs=graphs)
    del loss
    gc.collect()
    assert len(alive) == 0
    assert 0 < known() - before <= MOST_GRAPHS
