"""Where work runs, and whether anybody still waits for it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from gradwire_server.errors import Reason, Refusal
from gradwire_server.service.capacity.caller import Caller
from gradwire_server.service.capacity.pool import FairPool
from gradwire_server.service.telemetry.metrics import Metrics, Stage

T = TypeVar("T")

_GAVE_UP = frozenset({Reason.CANCELLED, Reason.DEADLINE_EXCEEDED})


class Work:
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
