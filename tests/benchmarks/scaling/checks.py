"""The simulation beside what really happened: two servers, and two actors."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import mean, median
from typing import Any

from tests.benchmarks.scaling.fitting import Fits, actor_terms
from tests.benchmarks.scaling.simulator import Loss, Outcome, Policy, Scenario, always, one_of, simulate

SEEDS = 8


@dataclass(frozen=True, slots=True)
class Compared:
    """A figure, as it was measured and as the simulation has it."""

    what: str
    measured: float
    simulated: float
    unit: str

    @property
    def error(self) -> float:
        """How far the simulation is off, relative to what was measured."""
        return self.simulated / self.measured - 1


def servers(measurements: Mapping[str, Any]) -> Iterator[Compared]:
    """Two servers on one machine with their callers, whose cores they share."""
    alone = measurements["server_alone"]
    for row in measurements["servers"]:
        callers = row["callers"]
        lost = row["lost_after"]
        losses = () if lost is None else (Loss(replica=0, at=lost, back=1e9, noticed=0.0),)
        scenario = Scenario(
            callers=callers,
            calls=len(row["calls"]) // callers,
            replicas=2,
            own=always(alone["client_seconds"]),
            compute=always(alone["server_seconds"]),
            wire=max(0.0, alone["wall_seconds"] - alone["client_seconds"] - alone["server_seconds"]),
            shared_cores=measurements["cores"],
            losses=losses,
        )
        found = [simulate(scenario, seed=seed) for seed in range(SEEDS)]
        name = f"{callers} {'callers' if callers > 1 else 'caller'}{', a server is killed' if losses else ''}"
        rate = len(row["calls"]) / row["seconds"]
        yield Compared(f"{name}: calls a second", rate, mean(_rate(each) for each in found), "/s")
        yield Compared(f"{name}: mean of a call", mean(row["calls"]), mean(mean(each.waits) for each in found), "s")
        if not losses:
            yield Compared(
                f"{name}: 95th percentile", tail(row["calls"]), mean(tail(each.waits) for each in found), "s"
            )


def _rate(outcome: Outcome) -> float:
    return len(outcome.ended) / max(outcome.ended)


def tail(seconds: Sequence[float]) -> float:
    """The 95th percentile."""
    return sorted(seconds)[int(0.95 * len(seconds))]


def actors(measurements: Mapping[str, Any], fits: Fits) -> Iterator[Compared]:
    """Steps of two actors, from gradients of one alone: the slower of two, and what the driver does for one more."""
    pair = measurements["pair"]
    alone = [seconds for [seconds] in pair["alone_gradients"]]
    around = median(step - seconds for step, seconds in zip(pair["alone_steps"], alone, strict=True))
    one, two = (fits.step.seconds(actor_terms(count, pair["parameters"])) for count in (1, 2))
    scenario = Scenario(
        callers=2,
        calls=len(pair["both_steps"]),
        replicas=2,
        together=True,
        policy=Policy.OWN,
        compute=one_of(alone),
        wire=around + two - one,
    )
    found = [simulate(scenario, seed=seed).steps for seed in range(SEEDS)]
    measured = pair["both_steps"]
    yield Compared("two actors: mean of a step", mean(measured), mean(map(mean, found)), "s")
    yield Compared("two actors: 95th percentile", tail(measured), mean(map(tail, found)), "s")
