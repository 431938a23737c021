"""Where work runs, and whether anybody still waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from gradwire_server.errors import Reason, Refusal, refuse
from gradwire_server.service.capacity.caller import SHUTTING_DOWN, Caller
from gradwire_server.service.capacity.pool import FairPool
from gradwire_server.service.telemetry.metrics import Metrics, Stage

T = TypeVar("T")

_GAVE_UP = frozenset({Reason.CANCELLED, Reason.DEADLINE_EXCEEDED})


class Jobs:
    """Work on threads for callers, who may give up before it is done."""

    def __init__(self, threads: int, max_seconds: float, metrics: Metrics) -> None:
        self._pool = FairPool(threads)
        self._max_seconds = max_seconds
        self._metrics = metrics

    async def run(self, caller: Caller, cost: float, work: Callable[[], T]) -> T:
        """Do work of about ``cost`` seconds; if the caller has gone by the time of its turn, it does not start."""
        stage = Stage.QUEUED

        def start() -> T:
            nonlocal stage
            stage = Stage.RUNNING
            caller.checkpoint()
            caller.allow(self._max_seconds)
            return work()

        # What is logged and measured there belongs to the call.
        future = self._pool.submit(caller.name, cost, partial(copy_context().run, start))
        try:
            return await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            self._metrics.cancelled(stage)
            raise
        except Refusal as refusal:
            if refusal.reason in _GAVE_UP:
                self._metrics.cancelled(stage)
            raise
        finally:
            # It holds what was raised, which holds this frame, and what the work was about would stay for a while.
            del future

    def close(self, seconds: float) -> bool:
        """Wait for the threads, but no longer than that; False if some still work."""
        return self._pool.close(seconds)


class Waits:
    """Calls that wait for their caller's next message, with no work under way: a draining server ends them.

    Used as a context manager around the wait, which then raises a Refusal (SHUTTING_DOWN).
    """

    def __init__(self) -> None:
        self._tasks: dict[asyncio.Task[object], asyncio.TimerHandle | None] = {}
        """What waits, and what ends it."""
        self._patience: float | None = None

    @property
    def ended(self) -> bool:
        """Whether the server drains, so that no call may wait for long."""
        return self._patience is not None

    def __enter__(self) -> None:
        if self._patience == 0:
            raise refuse(Reason.SHUTTING_DOWN, SHUTTING_DOWN)
        task = _current_task()
        self._tasks[task] = self._timer(task)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        task = _current_task()
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

    def _timer(self, task: asyncio.Task[object]) -> asyncio.TimerHandle | None:
        if self._patience is None:
            return None
        return asyncio.get_running_loop().call_later(self._patience, task.cancel)


def _current_task() -> asyncio.Task[object]:
    task = asyncio.current_task()
    if task is None:
        raise RuntimeError("a wait belongs to a task")
    return task
