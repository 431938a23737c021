"""What the simulation tells that no formula here does: chance, stragglers, and replicas that die."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import mean
from typing import Any

from tests.benchmarks.scaling.assumptions import Assumptions
from tests.benchmarks.scaling.fitting import Fits, call_terms
from tests.benchmarks.scaling.model import FLOAT
from tests.benchmarks.scaling.points import Size
from tests.benchmarks.scaling.simulator import (
    Loss,
    Policy,
    Scenario,
    Times,
    always,
    one_of,
    simulate,
    straggling,
)

SLOW_SHARE, SLOW_FACTOR = 0.01, 5.0
"""Gradients of a straggler, and how many times as long they take."""

LOST_AT, LOST_FOR, NOTICED = 0.5, 1.0, 0.2
"""Seconds until a replica dies, until it is back, and until those who had calls there make them again."""

SIMULATED = 1_000
"""Callers up to which a simulation takes a second."""

Cells = Sequence[object]


def bursts(fits: Fits, given: Assumptions, size: Size, numbers: Sequence[int]) -> Iterator[Cells]:
    """A step of N callers at one server with a process for each core: by the formula, and as chance has it.

    The kernel gives each connection to a process by chance, so that one process has more callers than another.
    """
    back = FLOAT * size.parameters
    coming = back + FLOAT * size.examples * size.numbers
    beside = {**call_terms(coming, back), "call": 0.0}
    # Here a call is in one process from its first byte to its last, whether on its loop or on its one thread.
    core = fits.busy_call + fits.server.seconds(beside) + fits.work(size)
    for workers in numbers:
        scenario = Scenario(
            callers=workers,
            calls=3,
            replicas=given.server_cores,
            together=True,
            policy=Policy.STAYS,
            compute=always(core),
        )
        chance = mean(mean(simulate(scenario, seed=seed).steps) for seed in range(3))
        even = max(1.0, workers / given.server_cores) * core
        yield workers, even, chance, chance / even


def slowest(values: Sequence[float], count: int) -> float:
    """The mean of the largest of ``count`` values drawn from these, exactly."""
    ordered = sorted(values)
    shares = [(rank / len(ordered)) ** count for rank in range(len(ordered) + 1)]
    return sum(value * (shares[rank + 1] - shares[rank]) for rank, value in enumerate(ordered))


def stragglers(measured: Sequence[float], numbers: Sequence[int]) -> Iterator[Cells]:
    """How many times as long as one gradient a step of N takes, which waits for the last of them.

    For each kind of duration: by simulation, where that is quick, and by formula.
    """
    usual = mean(measured)
    relative = [seconds / usual for seconds in measured]
    for workers in numbers:
        slow = 1 + (SLOW_FACTOR - 1) * (1 - (1 - SLOW_SHARE) ** workers)
        kinds: tuple[tuple[Times, float], ...] = (
            (one_of(relative), slowest(relative, workers)),
            (straggling(1.0, SLOW_SHARE, SLOW_FACTOR), slow),
        )
        row: list[object] = [workers]
        for times, formula in kinds:
            scenario = Scenario(
                callers=workers,
                calls=max(10, min(400, 4_000 // workers)),
                replicas=workers,
                policy=Policy.OWN,
                together=True,
                compute=times,
            )
            row += [mean(simulate(scenario).steps) if workers <= SIMULATED else None, formula]
        yield row


def balancers(workers: int, replicas: int) -> Iterator[Cells]:
    """A step of workers that train together, relative to one whose calls are spread evenly."""
    for policy in (Policy.TURNS, Policy.CHANCE, Policy.STAYS, Policy.LEAST):
        scenario = Scenario(
            callers=workers, calls=10, replicas=replicas, together=True, policy=policy, compute=always(1.0)
        )
        found = [step for seed in range(4) for step in simulate(scenario, seed=seed).steps]
        yield policy, mean(found) / (workers / replicas), max(found) / (workers / replicas)


def losses(workers: int, numbers: Sequence[int], seconds: float) -> Iterator[Cells]:
    """Steps of workers that train together, while one of several replicas is gone for a while."""
    for replicas in numbers:
        scenario = Scenario(
            callers=workers,
            calls=int(2 * (LOST_AT + LOST_FOR) / (seconds * workers / replicas)),
            replicas=replicas,
            together=True,
            policy=Policy.LEAST,
            compute=always(seconds),
            losses=(Loss(replica=0, at=LOST_AT, back=LOST_AT + LOST_FOR, noticed=NOTICED),),
        )
        found = simulate(scenario)
        ends, now = [], 0.0
        for step in found.steps:
            now += step
            ends.append(now)
        gone = [step for step, end in zip(found.steps, ends, strict=True) if LOST_AT < end - step < LOST_AT + LOST_FOR]
        # The first of them all begins again what was lost; the others have one replica less.
        yield replicas, found.steps[0], max(found.steps), mean(gone) if gone else found.steps[-1], len(found.repeated)


def measured_gradients(measurements: Mapping[str, Any]) -> list[float]:
    """Seconds of gradients of one actor, one after another."""
    return [seconds for [seconds] in measurements["pair"]["alone_gradients"]]
