"""Waits of calls for their callers: how long they may take, and what ends them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from math import inf
from time import monotonic
from typing import Any, TypeVar

from gradwire_server.errors import Reason, refuse
from gradwire_server.service.capacity.caller import SHUTTING_DOWN
from gradwire_server.service.telemetry.metrics import Metrics, Stage

T = TypeVar("T")

Task = asyncio.Task[Any]

PROGRESS = 1 << 20
"""Bytes of what comes in frames, of which less must not come in the time in which it may stand still."""


def current_task() -> Task:
    """The task that runs.

    Raises:
        RuntimeError: None does.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a wait belongs to a task")
    return task


class TimeLimit:
    """Ends the waits that take too long.

    Used as a context manager around each wait, which then raises a TimeoutError. There is one timer for all of them,
    which costs a call or message less than one of its own.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began: dict[Task, float] = {}
        """When each wait began, the oldest first."""
        self._late: set[Task] = set()
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        self.begin(current_task())

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        task = current_task()
        if self.end(task) and kind is asyncio.CancelledError and task.uncancel() == 0:
            raise TimeoutError from None

    def begin(self, task: Task) -> None:
        """A task begins to wait."""
        now = monotonic()
        self._began[task] = now
        if self._timer is None:
            self._look_again(now)

    def end(self, task: Task) -> bool:
        """A task waits no more; whether it had waited for too long."""
        if self._began.pop(task, None) is not None or task not in self._late:
            return False
        self._late.discard(task)
        return True

    def _look_again(self, oldest: float) -> None:
        delay = max(0, oldest + self._seconds - monotonic())
        self._timer = asyncio.get_running_loop().call_later(delay, self._end_late)

    def _end_late(self) -> None:
        self._timer = None
        late = monotonic() - self._seconds
        for task, began in list(self._began.items()):
            if began > late:
                self._look_again(began)
                return
            del self._began[task]
            self._late.add(task)
            self._expire(task)

    def _expire(self, task: Task) -> None:
        """End a task that has waited for too long."""
        task.cancel()


class Arrivals(TimeLimit):
    """Ends the waits for messages that take too long, whether their senders are slow or stand still.

    Such a wait raises a Refusal (DEADLINE_EXCEEDED).
    """

    def __init__(self, seconds: float, metrics: Metrics) -> None:
        super().__init__(seconds)
        self._metrics = metrics

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        try:
            super().__exit__(kind, error, trace)
        except TimeoutError:
            self._metrics.cancelled(Stage.RECEIVING)
            self._metrics.refused(Reason.DEADLINE_EXCEEDED)
            raise refuse(
                Reason.DEADLINE_EXCEEDED,
                f"the message of the call was not there as a whole after {self._seconds:g} s (max_arrival); send large "
                "tensors in frames of StreamGradients",
                limit=f"{self._seconds:g}",
                setting="max_arrival",
            ) from None


class Waits:
    """Calls that wait for their caller's next message, with no work under way: a draining server ends them.

    Used as a context manager around the wait, which then raises a Refusal (SHUTTING_DOWN).
    """

    def __init__(self) -> None:
        self._tasks: dict[Task, asyncio.TimerHandle | None] = {}
        """What waits, and what ends it."""
        self._patience: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the server drains, so that no call may wait for long."""
        return self._patience is not None

    def __enter__(self) -> None:
        if self._patience == 0:
            raise refuse(Reason.SHUTTING_DOWN, SHUTTING_DOWN)
        task = current_task()
        self._tasks[task] = self._timer(task)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        task = current_task()
        timer = self._tasks.pop(task)
        if timer is not None:
            timer.cancel()
        if self.ended and kind is asyncio.CancelledError:
            task.uncancel()
            raise refuse(Reason.SHUTTING_DOWN, SHUTTING_DOWN) from None

    async def each(self, messages: AsyncIterator[T]) -> AsyncIterator[T]:
        """The messages, every one of them waited for in this way."""
        while True:
            with self:
                try:
                    message = await anext(messages)
                except StopAsyncIteration:
                    return
            yield message

    def end(self, patience: float = 0) -> None:
        """End all waits, now and from now on, that take longer than so many seconds."""
        self._patience = patience
        for task, timer in self._tasks.items():
            if timer is not None:
                timer.cancel()
            self._tasks[task] = self._timer(task)

    def _timer(self, task: Task) -> asyncio.TimerHandle | None:
        if self._patience is None:
            return None
        return asyncio.get_running_loop().call_later(self._patience, task.cancel)


class Pace:
    """Until when the next part of what comes in frames must be there."""

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._end = 0.0
        self._lacked = inf
        """Bytes that lacked when that was set."""

    def begin(self) -> None:
        """The next request is still to begin."""
        self._lacked = inf

    def left(self, lacking: int) -> float:
        """Seconds until then, for a request of which so many bytes are still to come."""
        if self._lacked - lacking >= PROGRESS:
            self._lacked, self._end = lacking, monotonic() + self._seconds
        return self._end - monotonic()
