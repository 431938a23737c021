"""Waits that may not take longer than so many seconds."""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

Task = asyncio.Task[Any]


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


def current_task() -> Task:
    """The task that runs.

    Raises:
        RuntimeError: None does.
    """
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a wait belongs to a task")
    return task
