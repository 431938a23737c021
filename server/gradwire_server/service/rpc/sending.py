"""Answers on their way: nobody may take for ever to read one, and whoever hangs up meanwhile is no fault of ours."""

from __future__ import annotations

import asyncio
import gc
import logging
from enum import Enum, auto

import grpc

from gradwire_server.service.capacity.waits import Task, TimeLimit
from gradwire_server.service.telemetry.metrics import Metrics, Stage

LOGGER = "grpc._cython.cygrpc"
"""The logger on which gRPC tells of what it could not send."""

PAUSE = 0.25
"""Seconds between two looks for the tasks of calls that are given up: one look goes over the tasks of all calls."""

WAITS_FOR_CALLER = "_schedule_rpc_coro"
"""What gRPC calls the coroutine of the task that it has for each call beside the one that answers it."""


class Ending(Enum):
    """How the sending of an answer ended."""

    SENT = auto()
    HUNG_UP = auto()
    """The caller ended the call before all of it was sent."""
    STALLED = auto()
    """Nobody read it in time."""


class Sending(TimeLimit):
    """Gives up the calls whose last message takes too long to be read, each as the task that answers it.

    Added to a logger of gRPC, as a filter, it learns of calls whose caller hung up: gRPC logs these as faults.
    """

    def __init__(self, seconds: float, metrics: Metrics) -> None:
        super().__init__(seconds)
        self._metrics = metrics
        self._hung_up: set[Task] = set()
        self._given_up: set[Task] = set()

    def ended(self, task: Task) -> Ending:
        """How it ended, for a task that has ended itself."""
        ending = Ending.STALLED if self.end(task) else Ending.SENT
        if task in self._hung_up:
            self._hung_up.discard(task)
            ending = Ending.HUNG_UP
        if ending is not Ending.SENT:
            self._metrics.cancelled(Stage.SENDING)
        return ending

    def give_up(self, task: Task) -> None:
        """End the call of a task, and what gRPC holds for it.

        A server cannot cancel a call of gRPC. It is cancelled where nothing refers to it any more; besides this task
        there is one that waits for the end of the call, which does not come while nobody reads.
        """
        task.cancel()
        if not self._given_up:
            asyncio.get_running_loop().call_later(PAUSE, self._let_go)
        self._given_up.add(task)

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether a record of gRPC is to be logged."""
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, grpc.aio.InternalError):
            return True
        task = asyncio.current_task()
        if task is not None:
            self._hung_up.add(task)
        return False

    def _expire(self, task: Task) -> None:
        self.give_up(task)

    def _let_go(self) -> None:
        given_up, self._given_up = self._given_up, set()
        for waiting in asyncio.all_tasks():
            coroutine = waiting.get_coro()
            if getattr(coroutine, "__name__", "") != WAITS_FOR_CALLER:
                continue
            variables = [value for scope in gc.get_referents(coroutine) for value in gc.get_referents(scope)]
            if any(isinstance(value, asyncio.Task) and value in given_up for value in variables):
                waiting.cancel()
