"""Threads that compute together: parts of a work are done by whoever has time, and their results taken in order."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from threading import Condition, Lock
from typing import Generic, TypeVar

import numpy as np

from gradwire_server import cores

R = TypeVar("R")


@dataclass(slots=True)
class _Work:
    """What threads may help with."""

    part: Callable[[], bool]
    """Does one part; False if none was left."""
    wanted: int
    """Threads that it is worth, the caller's among them."""
    threads: int = 1
    over: bool = False


class Threads:
    """The threads of a process that compute at a time, those of callers and those that help them.

    A caller never waits for a helper to come: it does alone what nobody helps it with. Helpers leave, after the part
    that they do, when others begin to compute.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._start()

    def _start(self) -> None:
        self._process = os.getpid()
        self._helpers = ThreadPoolExecutor(max(1, self.count - 1), "gradwire-helper", _quiet)
        self._lock = Lock()
        self._computing = 0

    @contextmanager
    def caller(self) -> Iterator[None]:
        """Count the thread that comes here as one that computes."""
        if self._process != os.getpid():
            # A fork has no threads but the one that made it.
            self._start()
        with self._lock:
            self._computing += 1
        try:
            yield
        finally:
            with self._lock:
                self._computing -= 1

    def share(self, part: Callable[[], bool], wanted: int) -> None:
        """Call ``part`` until it gives False, here and on others of up to ``wanted`` threads, which may go on then."""
        work = _Work(part, wanted)
        while not work.over:
            self._invite(work)
            if not part():
                work.over = True

    def _invite(self, work: _Work) -> None:
        """Have one more thread help, if there is one; it will invite the next."""
        if work.threads >= work.wanted or self._computing >= self.count:
            return
        with self._lock:
            if work.threads >= work.wanted or self._computing >= self.count:
                return
            self._computing += 1
            work.threads += 1
        try:
            self._helpers.submit(self._help, work)
        except RuntimeError:
            # Python is about to end, and starts no threads any more.
            self._leave(work)
            work.wanted = 1

    def _help(self, work: _Work) -> None:
        while not work.over and self._computing <= self.count:
            self._invite(work)
            if not work.part():
                work.over = True
        self._leave(work)

    def _leave(self, work: _Work) -> None:
        with self._lock:
            self._computing -= 1
            work.threads -= 1


def _quiet() -> None:
    np.seterr(all="ignore")


ONE = Threads(1)
"""Nobody helps."""


@cache
def of_process() -> Threads:
    """One for each core that it may use, for whoever has no settings."""
    return Threads(cores.usable())


class Ordered(Generic[R]):
    """Parts whose results are taken in their order, whoever does them and whenever.

    Args:
        count: Number of parts.
        window: How many of them may be under way, or done and not yet taken.
        do: Does the part of a number, on any thread.
        take: Takes the result of a part; is never called twice at a time.
    """

    def __init__(self, count: int, window: int, do: Callable[[int], R], take: Callable[[R], None]) -> None:
        self._count = count
        self._window = window
        self._do = do
        self._take = take
        self._changed = Condition()
        self._begun = self._taken = self._running = 0
        self._done: dict[int, R | _Failure] = {}
        self._failure: BaseException | None = None

    def run(self, threads: Threads, wanted: int) -> None:
        """Do all parts, on up to ``wanted`` of the threads.

        Raises:
            BaseException: what the first part that failed raised. None is begun after it.
        """
        try:
            threads.share(self._part, wanted)
        finally:
            with self._changed:
                self._count = self._begun
                while self._running:
                    self._changed.wait()
            failure, self._failure = self._failure, None
            self._done.clear()
        if failure is not None:
            try:
                raise failure
            finally:
                # It knows this frame, and so all that was computed: not in a circle, which would be kept for a while.
                del failure

    def _part(self) -> bool:
        with self._changed:
            while self._begun < self._count and self._begun - self._taken >= self._window:
                self._changed.wait()
            if self._begun >= self._count:
                return False
            number = self._begun
            self._begun += 1
            self._running += 1
        result: R | _Failure
        try:
            result = self._do(number)
        except BaseException as error:  # noqa: BLE001  (the caller will raise it)
            result = _Failure(error)
        with self._changed:
            self._done[number] = result
            if isinstance(result, _Failure):
                self._count = self._begun
            del result  # A failure knows this frame.
        self._take_from(number)
        with self._changed:
            self._running -= 1
            self._changed.notify_all()
        return True

    def _take_from(self, number: int) -> None:
        """Take what is done if it is this part's turn; else whoever does the part before will take it."""
        while True:
            with self._changed:
                if number != self._taken or number not in self._done:
                    return
                result = self._done.pop(number)
            if isinstance(result, _Failure):
                self._failure = result.error
                return
            self._take(result)
            number += 1
            with self._changed:
                self._taken = number
                self._changed.notify_all()


@dataclass(frozen=True, slots=True)
class _Failure:
    """What a part raised."""

    error: BaseException
