"""What a step takes in each layout: seconds, processor time, bytes, and what gives way first.

A step: N workers each want value and gradient on E examples of their own, at the same P parameters, and then the sum of
the N gradients. Where workers call a server, or compute themselves, they add up among themselves by halving and
doubling (assumed, not measured); Ray's driver adds up itself (measured).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import partial
from math import ceil, log2

from tests.benchmarks.scaling.assumptions import Assumptions, Bounds
from tests.benchmarks.scaling.fitting import Fits, actor_terms, call_terms, passing_terms
from tests.benchmarks.scaling.points import Size

FLOAT = 8
BOUNDS = Bounds()


@dataclass(frozen=True, slots=True)
class Cost:
    """A step of all workers."""

    seconds: float
    """From its begin until every worker may begin the next one."""
    core_seconds: float
    """Processor time of all machines."""
    busiest_bytes: float
    """Bytes that come into or go out of the machine with the most of them, the larger of both."""
    cores: int
    """Cores that are there for it, of workers too if they compute."""
    waits_for: str
    """What takes the largest part of it."""
    grows: str
    """What more workers make longer."""
    broken: tuple[str, ...] = ()
    """Limits that it is over."""
    replicas: int = 0
    """Servers."""
    balancers: int = 0
    """Machines with as many cores as a server, which pass calls on to those."""


@dataclass(frozen=True, slots=True)
class Model:
    """Coefficients that were measured, and a cluster that was not."""

    fits: Fits
    given: Assumptions = field(default_factory=Assumptions)

    def layouts(self) -> Mapping[str, Callable[[int, Size], Cost]]:
        """All of them by name."""
        return {
            "in process": self.in_process,
            "one server, examples sent": partial(self.served, stored=False),
            "one server, examples stored": partial(self.served, stored=True),
            "replicas, examples sent": partial(self.replicated, stored=False),
            "replicas, examples stored": partial(self.replicated, stored=True),
            "Ray actors": self.actors,
        }

    def exchange(self, workers: int, size: Size) -> float:
        """Seconds in which workers add up their gradients: halves of them back and forth, log2 N times each."""
        if workers == 1:
            return 0.0
        there = 2 * (workers - 1) / workers * FLOAT * size.parameters / self.given.bandwidth
        return there + 2 * ceil(log2(workers)) * self.given.hop

    def held(self, size: Size) -> float:
        """Bytes of a worker's share of the examples."""
        return self.given.share * size.examples * size.numbers * FLOAT

    def in_process(self, workers: int, size: Size) -> Cost:
        """``gw.connect("local")`` in each worker."""
        work, call = self.fits.work(size), self.fits.local.coefficients["call"]
        parts = {
            "computing": call + work / self.given.worker_cores,
            "adding up": self.exchange(workers, size),
        }
        return Cost(
            seconds=sum(parts.values()),
            core_seconds=workers * (call + work),
            busiest_bytes=2 * FLOAT * size.parameters if workers > 1 else 0.0,
            cores=workers * self.given.worker_cores,
            waits_for=_largest(parts),
            grows="adding up",
            broken=("memory of a worker",) if self.held(size) > self.given.worker_memory else (),
        )

    def served(self, workers: int, size: Size, *, stored: bool, replicas: int = 1) -> Cost:
        """Calls to one server, or to several in turns; with one process of many threads, or one a core, as is best."""
        choices = (1, self.given.server_cores)
        return min(
            (self._served(workers, size, stored, replicas, processes) for processes in choices),
            key=lambda cost: (len(cost.broken), cost.seconds),
        )

    def _served(self, workers: int, size: Size, stored: bool, replicas: int, processes: int) -> Cost:
        fits, given = self.fits, self.given
        rows = FLOAT * size.examples * size.numbers
        back = FLOAT * size.parameters
        coming = back + (0.0 if stored else rows)
        work, terms = fits.work(size), call_terms(coming, back)
        beside = {**terms, "call": 0.0}
        core = fits.busy_call + fits.server.seconds(beside) + work
        loop = fits.busy_loop + fits.loop.seconds(beside) + fits.in_loop(size, coming)
        threads = given.server_cores // processes
        calls = ceil(workers / replicas)
        each = calls / processes
        inside = fits.in_loop(size, coming)
        queues = {
            "event loop": max(each - 1, 0) * loop,
            "cores of the server": max(calls / given.server_cores - 1, 0) * core,
            "network": max(calls - 1, 0) * max(coming, back) / given.bandwidth,
        }
        alone = {
            "the call": fits.wall.seconds(terms) + 2 * given.hop,
            "network": (coming + back) / given.bandwidth,
            "computing": inside or work / threads,
        }
        longest = max(queues, key=lambda name: queues[name])
        parts = {**alone, "adding up": self.exchange(workers, size)}
        parts[longest] = parts.get(longest, 0.0) + queues[longest]
        client, passing, balancers = fits.client.seconds(terms), 0.0, 0
        if replicas > 1:
            passing = fits.balancer.seconds(passing_terms(coming + back))
            parts["balancer"] = passing + 2 * given.hop
            # As many as have all calls pass in the time that servers take for theirs.
            load = max(passing / given.server_cores, max(coming, back) / given.bandwidth)
            balancers = ceil(workers * load / max(queues[longest], alone["the call"]))
        return Cost(
            seconds=sum(parts.values()),
            core_seconds=workers * (client + passing + core),
            busiest_bytes=calls * max(coming, back),
            cores=(replicas + balancers) * given.server_cores,
            waits_for=_largest(parts),
            grows=longest,
            broken=tuple(self._over(workers, ceil(each), coming, replicas, processes, size, stored=stored)),
            replicas=replicas,
            balancers=balancers,
        )

    def _over(
        self, workers: int, each: int, coming: float, replicas: int, processes: int, size: Size, *, stored: bool
    ) -> Iterator[str]:
        """Limits that a process of a server is over."""
        # Behind a balancer that is its concern, which has few connections to each server.
        if replicas == 1 and workers / processes > BOUNDS.connections:
            yield "connections"
        if each > BOUNDS.requests:
            yield "requests in flight"
        if each * coming > BOUNDS.bytes_in_flight:
            yield "bytes in flight"
        if coming > BOUNDS.request_bytes:
            yield "bytes of a request"
        if stored and workers * self.held(size) / replicas > self.given.server_memory:
            yield "memory for examples"
        if not stored and self.held(size) > self.given.worker_memory:
            yield "memory of a worker"

    def replicated(self, workers: int, size: Size, *, stored: bool) -> Cost:
        """As few servers as hold everything and keep a step within ``slowdown`` of one worker's."""
        alone = self.served(1, size, stored=stored).seconds
        # What all of them have to do alike is no queue.
        bound = self.given.slowdown * alone + self.exchange(workers, size)
        few, many = 0, 1
        while many < workers and not self._enough(workers, size, stored, many, bound):
            few, many = many, min(2 * many, workers)
        while many - few > 1:
            middle = (few + many) // 2
            few, many = (few, middle) if self._enough(workers, size, stored, middle, bound) else (middle, many)
        return self.served(workers, size, stored=stored, replicas=many)

    def _enough(self, workers: int, size: Size, stored: bool, replicas: int, bound: float) -> bool:
        cost = self.served(workers, size, stored=stored, replicas=replicas)
        mendable = set(cost.broken) - {"bytes of a request", "memory of a worker"}
        return not mendable and cost.seconds <= bound

    def actors(self, workers: int, size: Size) -> Cost:
        """Actors with a core and examples of their own; the driver hands out parameters and adds up gradients."""
        fits, given = self.fits, self.given
        terms = actor_terms(workers, size.parameters)
        work = fits.local.coefficients["call"] + fits.work(size)
        vector = FLOAT * size.parameters
        machines = ceil(workers / given.actors_on_a_machine)
        driver = fits.driver.seconds({**terms, "step": 0.0})
        parts = {
            "a step of Ray": fits.step.coefficients["step"] + 2 * given.hop,
            "driver": driver,
            "network": max(0.0, (workers + machines) * vector / given.bandwidth - driver),
            "computing": work,
        }
        return Cost(
            seconds=sum(parts.values()),
            core_seconds=fits.driver.seconds(terms) + fits.nodes.seconds(terms) + workers * work,
            busiest_bytes=workers * vector,
            cores=workers + 1,
            waits_for=_largest(parts),
            grows="driver" if driver >= parts["network"] else "network",
            broken=("memory of a worker",) if self.held(size) > given.worker_memory else (),
        )

    def full(self, layout: Callable[[int, Size], Cost], size: Size, most: int = 10_000_000) -> tuple[int, str]:
        """The largest N within all limits whose step takes at most ``slowdown`` times that of one, and what ends it."""
        alone = layout(1, size)

        def fits(workers: int) -> bool:
            cost = layout(workers, size)
            own = cost.seconds - (0 if layout == self.actors else self.exchange(workers, size))
            return not cost.broken and own <= self.given.slowdown * alone.seconds

        if not fits(1):
            return 0, ", ".join(alone.broken)
        good, bad = 1, 2
        while fits(bad):
            if bad > most:
                return most, ""
            good, bad = bad, 2 * bad
        while bad - good > 1:
            middle = (good + bad) // 2
            good, bad = (middle, bad) if fits(middle) else (good, middle)
        cost = layout(bad, size)
        return good, ", ".join(cost.broken) or cost.grows


def _largest(parts: Mapping[str, float]) -> str:
    return max(parts, key=lambda name: parts[name])
