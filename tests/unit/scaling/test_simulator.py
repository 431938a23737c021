"""The simulation agrees with queueing theory where that has a formula, and exactly where nothing is left to chance."""

from __future__ import annotations

from math import factorial, sqrt
from statistics import mean, stdev

import pytest

from tests.benchmarks.scaling.simulator import Loss, Policy, Scenario, always, exponential, simulate

pytestmark = pytest.mark.timeout(180)  # fifty thousand calls for each formula, a second or two of computing

CALLS, RUNS = 5000, 10
SETTLED = 500
"""Calls of a run that are not looked at, since they met an empty queue."""

STUDENT = 4.78
"""The interval that has the mean of 10 runs with 99.9 % (Student's t, 9 degrees of freedom)."""


def waits(scenario: Scenario) -> tuple[float, float]:
    """The mean time of a call, and half the width of the interval that has it."""
    means = [mean(simulate(scenario, seed=seed, arriving=CALLS).waits[SETTLED:]) for seed in range(RUNS)]
    return mean(means), STUDENT * stdev(means) / sqrt(RUNS)


def test_one_thread_is_m_m_1() -> None:
    found, around = waits(Scenario(arrivals=exponential(1 / 0.6), compute=exponential(1.0)))
    assert found == pytest.approx(1 / (1 - 0.6), abs=around)
    assert around < 0.1 * found


def test_one_thread_with_equal_calls_is_m_d_1() -> None:
    found, around = waits(Scenario(arrivals=exponential(1 / 0.7), compute=always(1.0)))
    assert found == pytest.approx(1 + 0.7 / (2 * (1 - 0.7)), abs=around)
    assert around < 0.1 * found


def test_several_threads_are_m_m_c() -> None:
    threads, load = 4, 0.7
    offered = threads * load
    queued = offered**threads / factorial(threads) / (1 - load)
    erlang = queued / (sum(offered**k / factorial(k) for k in range(threads)) + queued)
    scenario = Scenario(arrivals=exponential(1 / offered), compute=exponential(1.0), threads=threads)
    found, around = waits(scenario)
    assert found == pytest.approx(1 + erlang / (threads * (1 - load)), abs=around)
    assert around < 0.1 * found


def test_replicas_chosen_by_chance_are_as_many_m_m_1() -> None:
    scenario = Scenario(arrivals=exponential(1 / 1.8), compute=exponential(1.0), replicas=3, policy=Policy.CHANCE)
    found, around = waits(scenario)
    assert found == pytest.approx(1 / (1 - 0.6), abs=around)
    assert around < 0.1 * found


def test_the_event_loop_and_threads_in_a_row_are_two_m_m_1() -> None:
    scenario = Scenario(arrivals=exponential(2.0), loop=exponential(1.0), compute=exponential(1.2))
    found, around = waits(scenario)
    assert found == pytest.approx(1 / (1 - 0.5) + 1 / (1 / 1.2 - 0.5), abs=around)
    assert around < 0.1 * found


def test_a_step_of_equal_calls_takes_as_long_as_the_queue() -> None:
    scenario = Scenario(
        callers=10, calls=3, together=True, loop=always(0.5), compute=always(0.25), own=always(2.0), wire=1.0
    )
    assert simulate(scenario).steps == [2.0 + 1.0 + 10 * 0.5 + 0.25] * 3


def test_callers_that_take_turns_share_two_replicas_evenly() -> None:
    scenario = Scenario(callers=1, calls=6, replicas=2, compute=always(1.0))
    assert simulate(scenario).ended == [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]
    least = Scenario(callers=8, calls=1, together=True, replicas=2, compute=always(1.0), policy=Policy.LEAST)
    assert simulate(least).steps == [4.0]


def test_cores_that_all_share_bound_them_all() -> None:
    scenario = Scenario(
        callers=4, calls=5, together=True, replicas=4, policy=Policy.LEAST, compute=always(1.0), shared_cores=2
    )
    assert simulate(scenario).steps == [2.0] * 5


def test_a_call_whose_replica_dies_is_made_again_at_another() -> None:
    loss = Loss(replica=0, at=0.5, back=10.0, noticed=0.25)
    scenario = Scenario(callers=2, calls=1, replicas=2, compute=always(1.0), policy=Policy.LEAST, losses=(loss,))
    found = simulate(scenario)
    assert found.repeated == [0.5]
    assert found.waits == [1.0, 2.0], "the lost one begins again at 0.75, behind the one that was there"


def test_a_call_waits_for_a_replica_where_there_is_none() -> None:
    loss = Loss(replica=0, at=0.5, back=3.1, noticed=1.0)
    found = simulate(Scenario(calls=1, compute=always(1.0), losses=(loss,)))
    assert found.repeated == [0.5, 1.5, 2.5]
    assert found.waits == [4.5]


def test_the_same_seed_gives_the_same_outcome() -> None:
    scenario = Scenario(arrivals=exponential(1.5), compute=exponential(1.0), replicas=2)
    assert simulate(scenario, seed=7, arriving=200) == simulate(scenario, seed=7, arriving=200)
    assert simulate(scenario, seed=7, arriving=200) != simulate(scenario, seed=8, arriving=200)
