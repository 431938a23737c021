"""A simulation of callers, a balancer, and replicas that queue, straggle and are lost.

A replica is a server process: one event loop, through which every call passes, and threads that compute. Callers either
come at random (``arrivals``), or call again when they are answered (``calls``), all at a time if they train together
(``together``). Times are seconds.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

import simpy

Times = Callable[[random.Random], float]
"""Draws a duration."""

Events = Generator[simpy.Event, Any, None]


def always(seconds: float) -> Times:
    """The same duration each time."""
    return lambda _: seconds


NOTHING = always(0.0)


def exponential(mean: float) -> Times:
    """Durations without memory."""
    return lambda source: source.expovariate(1 / mean)


def one_of(measured: list[float]) -> Times:
    """Durations as they were measured."""
    return lambda source: source.choice(measured)


def straggling(seconds: float, share: float, factor: float) -> Times:
    """A duration that is ``factor`` times as long for a ``share`` of the calls."""
    return lambda source: seconds * (factor if source.random() < share else 1)


class Policy(StrEnum):
    """How a call comes to a replica."""

    TURNS = "turns"
    """Each caller asks one replica after another, from one that chance chooses."""
    CHANCE = "chance"
    """Chance chooses for each call."""
    STAYS = "stays"
    """Chance chooses for each caller, which stays as long as the replica lives, as do stored examples."""
    LEAST = "least"
    """The one with the fewest calls."""
    OWN = "own"
    """Each caller has one of its own, as Ray's driver has actors."""


@dataclass(frozen=True, slots=True)
class Loss:
    """A replica that dies, with the calls that it has."""

    replica: int
    at: float
    back: float
    """When it serves again."""
    noticed: float
    """Seconds after which its callers ask another."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """What is simulated."""

    callers: int = 1
    replicas: int = 1
    threads: int = 1
    compute: Times
    """On a thread of the replica."""
    loop: Times = NOTHING
    """On its event loop, before."""
    own: Times = NOTHING
    """On the caller's own core, before each call."""
    wire: float = 0.0
    """There and back, in which nothing waits."""
    calls: int = 0
    """Of each caller, one after another; 0 where they arrive."""
    arrivals: Times | None = None
    """Between two calls that arrive, instead; each has a caller of its own."""
    together: bool = False
    """Whether nobody calls again before all are answered: a step."""
    policy: Policy = Policy.TURNS
    losses: tuple[Loss, ...] = ()
    shared_cores: int = 0
    """Cores that callers and replicas share, as on one machine; 0 where everybody has enough."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of it."""

    waits: list[float] = field(default_factory=list)
    """Seconds of each call from its begin to its answer, in the order of answers."""
    steps: list[float] = field(default_factory=list)
    """Seconds of each step, where callers train together."""
    repeated: list[float] = field(default_factory=list)
    """When a call was lost with its replica, and made again."""
    ended: list[float] = field(default_factory=list)
    """When each call was answered."""


class _Replica:
    def __init__(self, world: simpy.Environment, threads: int) -> None:
        self.loop = simpy.Resource(world)
        self.threads = simpy.Resource(world, threads)
        self.calls: set[simpy.Process] = set()
        self.lives = True


class Simulation:
    """One run, from a seed."""

    def __init__(self, scenario: Scenario, seed: int = 0) -> None:
        self._told, self._source = scenario, random.Random(seed)  # noqa: S311  (no secret)
        self._world = simpy.Environment()
        self._replicas = [_Replica(self._world, scenario.threads) for _ in range(scenario.replicas)]
        self._cores = simpy.Resource(self._world, scenario.shared_cores or 1)
        self._noticed = {loss.replica: loss.noticed for loss in scenario.losses}
        self._outcome = Outcome()
        for loss in scenario.losses:
            self._world.process(self._lose(loss))

    def run(self, arriving: int = 0) -> Outcome:
        """Play it to its end; with ``arrivals`` until so many calls have come and are answered."""
        if self._told.arrivals:
            self._world.process(self._arrive(arriving))
        elif self._told.together:
            self._world.process(self._train())
        else:
            for first in self._firsts():
                self._world.process(self._go_on(first))
        self._world.run()
        return self._outcome

    def _first(self) -> int:
        return self._source.randrange(self._told.replicas)

    def _firsts(self) -> list[int]:
        callers = range(self._told.callers)
        return list(callers) if self._told.policy is Policy.OWN else [self._first() for _ in callers]

    def _arrive(self, count: int) -> Events:
        assert self._told.arrivals is not None
        for _ in range(count):
            yield self._world.timeout(self._told.arrivals(self._source))
            self._world.process(self._call(self._first(), 0))

    def _go_on(self, first: int) -> Events:
        for number in range(self._told.calls):
            yield from self._call(first, number)

    def _train(self) -> Events:
        firsts = self._firsts()
        for number in range(self._told.calls):
            begun = self._world.now
            yield self._world.all_of([self._world.process(self._call(first, number)) for first in firsts])
            self._outcome.steps.append(self._world.now - begun)

    def _call(self, first: int, number: int) -> Events:
        begun = self._world.now
        yield from self._use(None, self._told.own(self._source))
        while True:
            chosen = self._choose(first, number)
            if self._replicas[chosen].lives and (yield from self._served(self._replicas[chosen])):
                break
            self._outcome.repeated.append(self._world.now)
            yield self._world.timeout(self._noticed[chosen])
            first = self._first()
        self._outcome.waits.append(self._world.now - begun)
        self._outcome.ended.append(self._world.now)

    def _served(self, replica: _Replica) -> Generator[simpy.Event, Any, bool]:
        """Whether the replica lives until the answer is there."""
        process = self._world.active_process
        assert process is not None
        replica.calls.add(process)
        try:
            if self._told.wire:
                yield self._world.timeout(self._told.wire)
            yield from self._use(replica.loop, self._told.loop(self._source))
            yield from self._use(replica.threads, self._told.compute(self._source))
        except simpy.Interrupt:
            return False
        finally:
            replica.calls.discard(process)
        return True

    def _use(self, resource: simpy.Resource | None, seconds: float) -> Events:
        """Have a resource for so long, and one of the cores that all share, if they do."""
        if not seconds:
            return
        wanted = [each for each in (resource, self._cores if self._told.shared_cores else None) if each]
        requests: list[Any] = []
        try:
            for each in wanted:
                requests.append(each.request())
                yield requests[-1]
            yield self._world.timeout(seconds)
        finally:
            for each, request in zip(wanted, requests, strict=False):
                each.release(request) if request.triggered else request.cancel()

    def _choose(self, first: int, number: int) -> int:
        if self._told.policy is Policy.OWN:
            return first
        living = [number for number, replica in enumerate(self._replicas) if replica.lives] or [first]
        match self._told.policy:
            case Policy.TURNS:
                return living[(first + number) % len(living)]
            case Policy.STAYS:
                return first if first in living else living[first % len(living)]
            case Policy.CHANCE:
                return self._source.choice(living)
            case Policy.LEAST:
                return min(living, key=lambda each: len(self._replicas[each].calls))

    def _lose(self, loss: Loss) -> Events:
        replica = self._replicas[loss.replica]
        yield self._world.timeout(loss.at)
        replica.lives = False
        for process in list(replica.calls):
            process.interrupt()
        yield self._world.timeout(loss.back - loss.at)
        replica.lives = True


def simulate(scenario: Scenario, *, seed: int = 0, arriving: int = 0) -> Outcome:
    """Play a scenario once; the same seed gives the same outcome."""
    return Simulation(scenario, seed).run(arriving)
