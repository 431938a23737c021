"""Where work runs, and whether anybody still waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextvars import copy_context
from time import monotonic
from typing import Any, TypeVar

from prometheus_client import Gauge

from gradwire_server.errors import Reason, refuse
from gradwire_server.service.limits import ServiceLimits

T = TypeVar("T")

RETRY_SECONDS = 0.5
"""After which a caller that was turned away may try again."""

SHUTTING_DOWN = "the server is shutting down; try again, on another replica"


class Caller:
    """Who waits for a result, and until when. Its checkpoint may be called from any thread."""

    __slots__ = ("_deadline", "_gone")

    def __init__(self, seconds: float | None) -> None:
        self._deadline = None if seconds is None else monotonic() + seconds
        self._gone: tuple[Reason, str] | None = None

    def checkpoint(self) -> None:
        """Go on if the result is still wanted.

        Raises:
            Refusal: CANCELLED, DEADLINE_EXCEEDED, SHUTTING_DOWN.
        """
        if self._gone is not None:
            raise refuse(*self._gone)
        if self._deadline is not None and monotonic() >= self._deadline:
            raise refuse(
                Reason.DEADLINE_EXCEEDED,
                "the deadline passed before the result was there; give the call more time",
            )

    def dismiss(self, reason: Reason, message: str) -> None:
        """Have the work stop at its next checkpoint."""
        self._gone = reason, message


class Workers:
    """Threads for work that would hold up the event loop, and the number of requests in flight."""

    def __init__(self, threads: int, limits: ServiceLimits, gauge: Gauge) -> None:
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="gradwire")
        self._limits = limits
        self._callers: set[Caller] = set()
        self._gauge = gauge
        self._running: set[Future[Any]] = set()

    @property
    def in_flight(self) -> int:
        """Requests that are worked on or wait for a thread."""
        return len(self._callers)

    def admit(self, caller: Caller) -> None:
        """Begin a request.

        Raises:
            Refusal: OVERLOADED; CANCELLED or DEADLINE_EXCEEDED if nobody waits for the result.
        """
        caller.checkpoint()
        if len(self._callers) >= self._limits.max_requests:
            raise refuse(
                Reason.OVERLOADED,
                f"the server works on {len(self._callers)} requests, as many as it takes at a time (max_requests); "
                "try again later",
                found=len(self._callers),
                limit=self._limits.max_requests,
                setting="max_requests",
            )
        self._callers.add(caller)
        self._gauge.inc()

    def release(self, caller: Caller) -> None:
        """End a request; work for it that still runs stops at its next checkpoint."""
        caller.dismiss(Reason.CANCELLED, "the caller gave up")
        if caller in self._callers:
            self._callers.remove(caller)
            self._gauge.dec()

    async def run(self, caller: Caller, work: Callable[[], T]) -> T:
        """Do the work on a thread; if the caller has gone by the time there is one, it does not start."""

        def start() -> T:
            caller.checkpoint()
            return work()

        # What is logged and measured there belongs to the call.
        future = self._pool.submit(copy_context().run, start)
        self._running.add(future)
        future.add_done_callback(self._running.discard)
        return await asyncio.wrap_future(future)

    def give_up(self) -> None:
        """Have all work stop at its next checkpoint."""
        for caller in self._callers:
            caller.dismiss(Reason.SHUTTING_DOWN, SHUTTING_DOWN)

    def close(self, seconds: float) -> bool:
        """Wait for the threads, but no longer than that; False if some still work."""
        self._pool.shutdown(wait=False, cancel_futures=True)
        return not wait(set(self._running), max(0, seconds)).not_done


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
