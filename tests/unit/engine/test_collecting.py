"""The search for cycles is put off for a while, by several threads at a time, and no longer."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import numpy as np
import pytest

from gradwire_server.engine import Query, bind, no_full_collections
from tests.unit.engine.graphs import LIMITS, Builder


def test_it_goes_on_as_before_once_all_threads_are_through() -> None:
    usual, inside, through = gc.get_threshold(), Barrier(3), Barrier(3)

    def put_off() -> None:
        with no_full_collections():
            inside.wait()
        through.wait()

    with ThreadPoolExecutor(2) as threads:
        done = [threads.submit(put_off) for _ in range(2)]
        with no_full_collections():
            inside.wait()
            through.wait()
            assert gc.get_threshold()[:2] == usual[:2]
            assert gc.get_threshold()[2] > 1 << 20
        for each in done:
            each.result()
    assert gc.get_threshold() == usual


def test_it_goes_on_as_before_if_a_plan_is_given_up() -> None:
    usual, seen = gc.get_threshold(), []

    def checkpoint() -> None:
        seen.append(gc.get_threshold())
        raise InterruptedError

    builder = Builder()
    builder.op("tanh", builder.parameter("x"))
    program = builder.program()
    query = Query(arrays={"x": np.array(1.0)}, dtype=np.dtype(np.float64), wrt=())
    with pytest.raises(InterruptedError):
        bind(program, query, LIMITS, checkpoint=checkpoint)
    assert seen[0] != usual
    assert gc.get_threshold() == usual
