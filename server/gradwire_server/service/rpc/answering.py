"""The course of every request, which unary calls and streams share: turns, sizes, costs, faults."""

from __future__ import annotations

from abc import ABC, abstractmethod
from functools import partial
from typing import Generic, NoReturn, TypeVar
from uuid import uuid4

import grpc
import structlog
from structlog.contextvars import bind_contextvars

from gradwire_server.errors import Reason, Refusal, refuse
from gradwire_server.service.capacity.admission import Admission
from gradwire_server.service.capacity.caller import Caller
from gradwire_server.service.capacity.work import Work
from gradwire_server.service.requests.logic import GradientLogic, Planned
from gradwire_server.service.rpc.planning import Planner, Unprepared
from gradwire_server.service.rpc.status import Context, abort, told
from gradwire_server.service.telemetry.metrics import Metrics
from gradwire_server.service.telemetry.spans import SPANS

R = TypeVar("R")
A = TypeVar("A")

SMALL_BYTES = 1 << 18
SMALL_SECONDS = 1e-3
SMALL_MEMORY = 1 << 20
"""What the event loop parses and computes itself, of requests whose program is at hand (``GradientLogic.at_hand``);
all else goes to a thread, so that no other call waits for it."""

SMALL_REPLY = 4096
"""Bytes of a response up to which it takes no more than the call itself, and is not counted."""

TOO_MUCH = "ask for less or use StreamGradients"
"""What to do about a response that is too large for a message."""

SECONDS_PER_BYTE = 2e-8
"""Seconds to parse and check a byte of a request, roughly; graphs take more, tensors less."""

_log = structlog.get_logger()


def seconds_to_read(nbytes: int) -> float:
    """Rough estimate of the time to parse and check a request of so many bytes."""
    return SECONDS_PER_BYTE * nbytes


class Exchange(ABC, Generic[R, A]):
    """A request and its answer: what unary calls and streams do in ways of their own, ``R`` being what is computed."""

    uncounted = 0
    """Bytes of the request that count only from its admission on."""

    def __init__(self, context: Context, caller: Caller) -> None:
        self.context = context
        self.caller = caller

    @abstractmethod
    def size(self) -> int:
        """Bytes of the request that are to be read."""

    @abstractmethod
    def plan_at_once(self) -> Planned[R] | None:
        """Check the request on the event loop; None for one that takes too long to check there."""

    @abstractmethod
    def plan(self) -> Planned[R] | Unprepared[R]:
        """Check the request, on a thread."""

    @abstractmethod
    def reserve(self, planned: Planned[R]) -> None:
        """Take memory for the work and room for the response, or raise a Refusal."""

    @abstractmethod
    def compute(self, planned: Planned[R]) -> A:
        """Do the work, on the event loop or on a thread; returns the answer."""

    @abstractmethod
    def hold(self, planned: Planned[R], answer: A) -> None:
        """Count the answer, which is all that the request holds from now on."""


class Answering:
    """Answers requests, whatever brings them, and tells callers what was wrong."""

    def __init__(self, logic: GradientLogic, work: Work, admission: Admission, metrics: Metrics) -> None:
        self.logic = logic
        self.engine_limits = logic.limits.of_engine()
        self.planner = Planner(logic)
        self.work = work
        self.admission = admission
        self.metrics = metrics

    async def answer(self, exchange: Exchange[R, A]) -> A:
        """Check a request and compute it: at once if it is small, otherwise in its turn, on threads."""
        caller = exchange.caller
        self.admission.check(caller)
        planned = exchange.plan_at_once()
        if planned is not None and planned.cost <= SMALL_SECONDS and planned.memory <= SMALL_MEMORY:
            answer = exchange.compute(planned)
        else:
            caller.name = exchange.context.peer()
            try:
                self.admission.admit(caller, exchange.uncounted)
                planned = planned or await self._plan(exchange)
                exchange.reserve(planned)
                answer = await self.work.run(caller, planned.cost, partial(exchange.compute, planned))
            except BaseException:
                self.admission.release(caller)
                raise
        exchange.hold(planned, answer)
        return answer

    async def _plan(self, exchange: Exchange[R, A]) -> Planned[R]:
        """Check a request on threads; its graph is prepared in memory that the request has until then."""
        caller = exchange.caller

        def plan() -> Planned[R] | Unprepared[R]:
            with SPANS.part("decode"):
                return exchange.plan()

        found = await self.work.run(caller, seconds_to_read(exchange.size()), plan)
        if isinstance(found, Planned):
            return found
        prepare = found.prepare

        def plan_prepared() -> Planned[R]:
            with SPANS.part("decode"):
                return prepare(caller.checkpoint)

        self.admission.reserve(caller, found.memory)
        planned = await self.work.run(caller, found.cost, plan_prepared)
        self.admission.give_back(caller, found.memory)
        return planned

    def check_size(self, raw: bytes) -> None:
        """Refuse a message that is too large."""
        limit = self.logic.limits.max_message_bytes
        if len(raw) > limit:
            raise refuse(
                Reason.LIMIT_EXCEEDED,
                f"the request has {len(raw)} bytes; this server takes at most {limit} in one message "
                "(--max-message-bytes or GRADWIRE_MAX_MESSAGE_BYTES of the server); send large tensors in frames of "
                "StreamGradients",
                found=len(raw),
                limit=limit,
                setting="max_message_bytes",
                side="server",
            )

    async def fail(self, context: Context, method: str, error: Exception) -> NoReturn:
        """End a call that raised; whatever went wrong becomes a status."""
        if isinstance(error, grpc.aio.BaseError):
            raise error
        if isinstance(error, Refusal):
            self.metrics.refused(error.reason)
            # For the line of the call.
            bind_contextvars(**told(error))
            await abort(context, error)
        # Its text is not for the caller.
        await abort(context, self._fault(method))

    def _fault(self, method: str) -> Refusal:
        error_id = uuid4().hex
        _log.exception("internal error", method=method, error_id=error_id)
        self.metrics.refused(Reason.INTERNAL)
        return refuse(Reason.INTERNAL, f"internal error; the server's log has it under {error_id}", error_id=error_id)
