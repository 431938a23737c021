"""Timing of things that are compared: in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import median
from time import perf_counter

SLICE = 0.03
"""Seconds that a contestant has in a round, about; at least one call."""

MIN_ROUNDS = 5


@dataclass(frozen=True, slots=True)
class Timings:
    """The median duration of a call of each contestant, round by round, in seconds."""

    rounds: Mapping[str, Sequence[float]]

    def seconds(self, name: str) -> float:
        """The median over all rounds."""
        return median(self.rounds[name])

    def ratio(self, name: str, other: str) -> float:
        """How many times as long ``name`` takes as ``other``: the median of the rounds' ratios."""
        return median(a / b for a, b in zip(self.rounds[name], self.rounds[other], strict=True))


def interleave(contestants: Mapping[str, Callable[[], object]], *, seconds: float) -> Timings:
    """Call the contestants in turns, for about ``seconds`` in all, and at least for five rounds.

    Each is called twice before, so that connections, caches and compilers are warm.
    """
    calls = {name: _calls_in_slice(call) for name, call in contestants.items()}
    rounds: dict[str, list[float]] = {name: [] for name in contestants}
    order = list(contestants)
    end = perf_counter() + seconds
    while perf_counter() < end or len(rounds[order[0]]) < MIN_ROUNDS:
        for name in order:
            rounds[name].append(median(_time(contestants[name]) for _ in range(calls[name])))
        order = [*order[1:], order[0]]
    return Timings(rounds)


def _calls_in_slice(call: Callable[[], object]) -> int:
    call()
    return max(1, int(SLICE / _time(call)))


def _time(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start
