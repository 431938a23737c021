"""Timing of things that are compared: in turns, so that what else the machine does falls on all of them alike."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from multiprocessing.connection import Connection
from statistics import median
from time import perf_counter, process_time, sleep
from typing import Any

import numpy as np

SLICE = 0.03
"""Seconds that a contestant has in a round, about; at least one call."""

MIN_ROUNDS = 5

REST = 0.005
"""Seconds for which a process must be idle before another one has its turn."""


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
    for call in contestants.values():
        call()
        call()
    return in_turns({name: partial(_slice, call) for name, call in contestants.items()}, seconds)


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
            rivals[name] = Rival(name, stack.enter_context(ours))
        first, *others = [rival.gradients() for rival in rivals.values()]
        for other in others:
            _agree(first, other)
        yield rivals


class Rival:
    """A contestant in a process of its own."""

    def __init__(self, name: str, connection: Connection) -> None:
        self._name = name
        self._connection = connection

    def gradients(self) -> Any:
        """The arrays of the gradient, in the order of their names; none of them if it computes none."""
        return self._received()

    def begin(self) -> None:
        """Have it make its calls."""
        self._connection.send(None)

    def end(self) -> float:
        """The median duration of these calls, in seconds."""
        taken: float = self._received()
        return taken

    def run(self) -> float:
        """Both."""
        self.begin()
        return self.end()

    def _received(self) -> Any:
        try:
            return self._connection.recv()
        except EOFError:
            raise RuntimeError(f"the process of {self._name} has ended; it says above why") from None


Call = Callable[[], tuple[Any, Any]]
"""A contestant's call. It gives a value and a gradient: an array, several by name or in the order of names, or None."""


def _serve(connection: Connection, make: Callable[[], Call]) -> None:
    """Send the gradient, and then the duration of a call whenever it is wanted."""
    call = make()
    _, gradient = call()
    call()
    _rest()
    try:
        connection.send(_arrays(gradient))
        del gradient
        while True:
            connection.recv()
            taken = _slice(call)
            _rest()
            connection.send(taken)
    except (EOFError, ConnectionError):
        pass


def _arrays(gradient: Any) -> list[Any]:
    if gradient is None:
        return []
    if isinstance(gradient, Mapping):
        gradient = [gradient[name] for name in sorted(gradient)]
    return [np.asarray(array) for array in (gradient if isinstance(gradient, list | tuple) else [gradient])]


def _agree(first: Sequence[Any], other: Sequence[Any]) -> None:
    """Check that two contestants do the same work, to the precision of float32."""
    if first and other:
        for a, b in zip(first, other, strict=True):
            np.testing.assert_allclose(b, a, rtol=1e-3, atol=1e-4 * np.abs(a).max())


def _rest() -> None:
    """Wait until no thread of this process runs: those of OpenBLAS look for work for a tenth of a second."""
    end = perf_counter() + 1
    while perf_counter() < end:
        before = process_time()
        sleep(REST)
        if process_time() - before < REST / 5:
            break


def _slice(call: Callable[[], object]) -> float:
    """The median duration of the calls that fill a slice of time, in seconds."""
    taken: list[float] = []
    end = perf_counter() + SLICE
    while not taken or perf_counter() < end:
        start = perf_counter()
        call()
        taken.append(perf_counter() - start)
    return median(taken)


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
