"""Timing of things that are compared: in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter
from typing import Any

import numpy as np

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
    slices = {name: _Slice(call) for name, call in contestants.items()}
    return in_turns({name: piece.run for name, piece in slices.items()}, seconds)


def interleave_processes(contestants: Mapping[str, Callable[[], Call]], *, seconds: float) -> Timings:
    """``interleave``, with each contestant in a process of its own, so that no threads of one wait busily in another.

    Args:
        contestants: What makes each call, there; a call gives a value and a gradient, on which all agree that give one.
        seconds: As said.
    """
    with contest(contestants) as rivals:
        return in_turns({name: rival.run for name, rival in rivals.items()}, seconds)


@contextmanager
def contest(contestants: Mapping[str, Callable[[], Call]]) -> Iterator[dict[str, Rival]]:
    """Processes that make calls when told to, for ``interleave_processes``."""
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        rivals: dict[str, Rival] = {}
        for name, make in contestants.items():
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve, args=(theirs, make))
            process.start()
            theirs.close()
            stack.callback(process.join)
            rivals[name] = Rival(stack.enter_context(ours))
        first, *others = [rival.gradient() for rival in rivals.values()]
        for other in others:
            if other is not None:
                np.testing.assert_allclose(other, first, rtol=1e-3, atol=1e-5)
        yield rivals


class Rival:
    """A contestant in a process of its own."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection

    def gradient(self) -> Any:
        """What it sends first."""
        return self._connection.recv()

    def begin(self) -> None:
        """Have it make its calls."""
        self._connection.send(None)

    def end(self) -> float:
        """The median duration of these calls, in seconds."""
        taken: float = self._connection.recv()
        return taken

    def run(self) -> float:
        """Both."""
        self.begin()
        return self.end()


Call = Callable[[], tuple[Any, Any]]


def _serve(connection: Connection, make: Callable[[], Call]) -> None:
    """Send the gradient, and then the duration of a call whenever one is asked for."""
    call = make()
    _, gradient = call()
    connection.send(None if gradient is None else np.asarray(gradient))
    piece = _Slice(call)
    try:
        while True:
            connection.recv()
            connection.send(piece.run())
    except EOFError:
        pass


class _Slice:
    """As many calls as fill a slice of time."""

    def __init__(self, call: Callable[[], object]) -> None:
        call()
        self._call, self._calls = call, max(1, int(SLICE / _time(call)))

    def run(self) -> float:
        """The median duration of a call, in seconds."""
        return median(_time(self._call) for _ in range(self._calls))


def in_turns(turns: Mapping[str, Callable[[], float]], seconds: float) -> Timings:
    """Take turns, each of which says how long a call took, for about ``seconds``, and at least for five rounds."""
    rounds: dict[str, list[float]] = {name: [] for name in turns}
    order = list(turns)
    end = perf_counter() + seconds
    while perf_counter() < end or len(rounds[order[0]]) < MIN_ROUNDS:
        for name in order:
            rounds[name].append(turns[name]())
        order = [*order[1:], order[0]]
    return Timings(rounds)


def _time(call: Callable[[], object]) -> float:
    start = perf_counter()
    call()
    return perf_counter() - start
