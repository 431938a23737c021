"""What Ray takes for a step: parameters to all actors, a gradient from each, their sum in the driver."""

from __future__ import annotations

import os
import resource
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from statistics import median
from time import perf_counter, process_time
from typing import Any

import numpy as np
import psutil
import ray

from tests.benchmarks.scaling.points import Point

PARAMETERS = (10, 1_000, 30_000, 1_000_000)
ACTORS = (1, 2, 4)
HELD = ((3, 10), (3, 3_000), (3, 200_000))
"""Actors and parameters that the fit does not see."""

STEPS = 30
ROUNDS = 3
PAIR = Point((200, 500, 1), 400)
"""What two actors compute, each on examples of its own, to be compared with the simulation."""

PAIR_STEPS = 150
STORE_BYTES = 256 << 20
WAIT = 600


class Worker:
    """An actor that holds its examples, and a client of the engine in its own process."""

    def __init__(self) -> None:
        import gradwire as gw  # noqa: PLC0415  (in the actor, whose start it is a part of)

        self._client = gw.connect("local")

    def echo(self, parameters: Any) -> Any:
        """An array as large as the gradient, without any computing."""
        return parameters + 1

    def prepare(self, seed: int) -> None:
        """Have examples to compute with, of its own."""
        work = PAIR.workload()
        random = np.random.default_rng(seed)
        self._data = {name: random.permutation(array) for name, array in work.data.items()}
        self._shapes = {name: array.shape for name, array in work.parameters.items()}
        self._step = self._client.value_and_grad(work.loss)

    def gradient(self, parameters: Any) -> tuple[Any, float]:
        """The gradient in a flat vector of parameters, and the seconds that it took here."""
        begun = perf_counter()
        arrays, start = {}, 0
        for name, shape in self._shapes.items():
            end = start + int(np.prod(shape))
            arrays[name] = parameters[start:end].reshape(shape)
            start = end
        _, found = self._step({**arrays, **self._data})
        flat = np.concatenate([found[name].ravel() for name in self._shapes])
        return flat, perf_counter() - begun

    def used(self) -> tuple[float, float]:
        """Processor seconds of this process until now, and the memory that it shares with no other."""
        taken = resource.getrusage(resource.RUSAGE_SELF)
        return taken.ru_utime + taken.ru_stime, float(psutil.Process().memory_full_info().uss)


@dataclass(frozen=True, slots=True)
class Crew:
    """Actors that have started, and what that took."""

    actors: Sequence[Any]
    init_seconds: float
    """From nothing to a cluster of one machine, by the clock."""
    start_seconds: float
    """Processor seconds of an actor until it answers: its process, Ray's library, gradwire."""
    actor_bytes: float


@contextmanager
def crew(count: int) -> Iterator[Crew]:
    """A cluster of this process alone, and actors on it."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_agent_register_timeout_ms", "120000")
    begun = perf_counter()
    ray.init(
        num_cpus=count,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=STORE_BYTES,
        configure_logging=False,
        _node_ip_address="127.0.0.1",
    )
    try:
        started = perf_counter()
        remote: Any = ray.remote(num_cpus=1)(Worker)
        actors = [remote.remote() for _ in range(count)]
        used = ray.get([actor.used.remote() for actor in actors], timeout=WAIT)
        yield Crew(
            actors,
            started - begun,
            median(seconds for seconds, _ in used),
            median(memory for _, memory in used),
        )
    finally:
        ray.shutdown()


def step(actors: Sequence[Any], parameters: Any) -> Any:
    """The sum of what all actors make of the parameters."""
    stored = ray.put(parameters)
    total = np.zeros_like(parameters)
    for found in ray.get([actor.echo.remote(stored) for actor in actors], timeout=WAIT):
        total += found
    return total


def steps(actors: Sequence[Any], count: int) -> Mapping[str, float]:
    """Processor seconds of a step in the driver, in all actors and in Ray's own processes; and by the clock."""
    parameters = np.zeros(count)
    for _ in range(3):
        step(actors, parameters)
    begun = _clocks(actors)
    for _ in range(STEPS):
        step(actors, parameters)
    ended = _clocks(actors)
    return {name: (ended[name] - begun[name]) / STEPS for name in begun}


def _clocks(actors: Sequence[Any]) -> dict[str, float]:
    used = ray.get([actor.used.remote() for actor in actors], timeout=WAIT)
    return {
        "actor_seconds": sum(seconds for seconds, _ in used),
        "ray_seconds": sum(
            sum(process.cpu_times()[:2])
            for process in psutil.Process().children()
            if process.name().startswith(("gcs_server", "raylet"))
        ),
        "driver_seconds": process_time(),
        "wall_seconds": perf_counter(),
    }


def measure() -> Iterator[Mapping[str, object]]:
    """A row for each number of actors and of parameters, and one of what a start takes."""
    sizes = [*product(ACTORS, PARAMETERS), *HELD]
    with crew(max(ACTORS)) as started:
        rounds: dict[tuple[int, int], list[Mapping[str, float]]] = {size: [] for size in sizes}
        for _ in range(ROUNDS):
            for actors, parameters in sizes:
                rounds[actors, parameters].append(steps(started.actors[:actors], parameters))
        pair = _pair(started.actors[:2])
    for (actors, parameters), taken in rounds.items():
        yield {
            "actors": actors,
            "parameters": parameters,
            "held": (actors, parameters) in HELD,
            **{name: median(each[name] for each in taken) for name in taken[0]},
        }
    yield {
        "init_seconds": started.init_seconds,
        "start_seconds": started.start_seconds,
        "actor_bytes": started.actor_bytes,
    }
    yield pair


def _pair(actors: Sequence[Any]) -> Mapping[str, object]:
    """Steps of one actor, and of two at a time: seconds of each gradient in its actor, and of each step."""
    ray.get([actor.prepare.remote(seed) for seed, actor in enumerate(actors)], timeout=WAIT)
    parameters = np.zeros(int(PAIR.size.parameters))
    found: dict[str, object] = {"parameters": parameters.size}
    for name, group in (("alone", actors[:1]), ("both", actors)):
        taken, inside = [], []
        for number in range(PAIR_STEPS + 10):
            begun = perf_counter()
            stored = ray.put(parameters)
            answers = ray.get([actor.gradient.remote(stored) for actor in group], timeout=WAIT)
            total = np.sum([gradient for gradient, _ in answers], axis=0)
            if number >= 10:
                taken.append(perf_counter() - begun)
                inside.append([seconds for _, seconds in answers])
            assert total.shape == parameters.shape
        found |= {f"{name}_steps": taken, f"{name}_gradients": inside}
    return found
