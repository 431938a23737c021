"""Calls with one request and one response, each a message."""

from __future__ import annotations

from collections.abc import Callable
from typing import Generic, TypeVar

from google.protobuf.message import Message

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire_server import codec
from gradwire_server.engine import Checkpoint
from gradwire_server.service.capacity.admission import Admission
from gradwire_server.service.capacity.caller import Caller
from gradwire_server.service.capacity.waits import current_task
from gradwire_server.service.requests.logic import Planned, reply_too_large
from gradwire_server.service.rpc.answering import SMALL_BYTES, SMALL_REPLY, TOO_MUCH, Answering, Exchange
from gradwire_server.service.rpc.planning import Unprepared
from gradwire_server.service.rpc.small import SmallRequests
from gradwire_server.service.rpc.status import Context
from gradwire_server.service.telemetry.spans import SPANS

Q = TypeVar("Q", bound=Message)
R = TypeVar("R", bound=Message)

COPIES = 2
"""Copies of a unary response while it is sent: Python has one, and gRPC another."""

Plan = Callable[[Q, Checkpoint], Planned[R] | Unprepared[R]]
"""Checks a request."""

PlanAtOnce = Callable[[Q], Planned[R] | None]
"""Checks a request on the event loop; None for one that takes too long to check there."""


class UnaryCalls:
    """Calls of all methods that are unary."""

    def __init__(self, answering: Answering, small: SmallRequests) -> None:
        self._answering = answering
        self._small = small

    async def compute(self, raw: bytes, context: Context) -> bytes:
        """The response to a call of ComputeGradients."""
        answering = self._answering
        answering.metrics.received(len(raw))
        try:
            caller = Caller(context.time_remaining())
            known = self._small.find(raw, 0)
            reply = None if known is None else self._small.unary(known, raw, caller)
            if reply is None:
                plan, plan_at_once = answering.planner.compute, answering.planner.compute_at_once
                exchange = _UnaryExchange(
                    context, caller, answering, pb.ComputeGradientsRequest, raw, plan, plan_at_once
                )
                reply = await answering.answer(exchange)
                if known is None and exchange.small is not None:
                    self._small.learn(raw, 0, exchange.small)
            elif len(reply) > SMALL_REPLY:
                hold(answering.admission, caller, reply)
        except Exception as error:  # noqa: BLE001  (a status tells of it)
            await answering.fail(context, "ComputeGradients", error)
        answering.metrics.sent(len(reply))
        return reply

    async def answer(
        self,
        context: Context,
        kind: type[Q],
        raw: bytes,
        plan: Plan[Q, R],
        plan_at_once: PlanAtOnce[Q, R] | None = None,
    ) -> bytes:
        """The response to a call, serialized; whatever is wrong ends the call with a status."""
        metrics = self._answering.metrics
        metrics.received(len(raw))
        try:
            caller = Caller(context.time_remaining())
            reply = await self._answering.answer(
                _UnaryExchange(context, caller, self._answering, kind, raw, plan, plan_at_once)
            )
        except Exception as error:  # noqa: BLE001  (a status tells of it)
            await self._answering.fail(context, kind.DESCRIPTOR.name.removesuffix("Request"), error)
        metrics.sent(len(reply))
        return reply


class _UnaryExchange(Exchange[R, bytes], Generic[Q, R]):
    def __init__(
        self,
        context: Context,
        caller: Caller,
        answering: Answering,
        kind: type[Q],
        raw: bytes,
        plan: Plan[Q, R],
        plan_at_once: PlanAtOnce[Q, R] | None,
    ) -> None:
        super().__init__(context, caller)
        self.uncounted = len(raw)
        self._answering = answering
        self._limits = answering.logic.limits
        self._raw = raw
        self._kind, self._plan, self._plan_at_once = kind, plan, plan_at_once
        self.small: Q | None = None
        """The request, once it was parsed, if it is small."""

    def size(self) -> int:
        return len(self._raw)

    def plan_at_once(self) -> Planned[R] | None:
        self._answering.check_size(self._raw)
        if self._plan_at_once is None or len(self._raw) > SMALL_BYTES:
            return None
        with SPANS.part("decode"):
            self.small = self._parsed()
            return self._plan_at_once(self.small)

    def plan(self) -> Planned[R] | Unprepared[R]:
        return self._plan(self.small or self._parsed(), self.caller.checkpoint)

    def _parsed(self) -> Q:
        return codec.parse(self._kind, self._raw, self._answering.engine_limits)

    def reserve(self, planned: Planned[R]) -> None:
        self._answering.admission.reserve(self.caller, planned.memory, COPIES * planned.reply)

    def compute(self, planned: Planned[R]) -> bytes:
        checkpoint = self.caller.checkpoint
        checkpoint()
        with SPANS.part("compute"):
            response = planned.run(checkpoint)
        with SPANS.part("encode"):
            found = response.ByteSize()
            if found > self._limits.max_message_bytes:
                raise reply_too_large(found, self._limits, TOO_MUCH)
            return response.SerializeToString()

    def hold(self, planned: Planned[R], answer: bytes) -> None:
        """Count the response until the call is over, which is when gRPC has sent it."""
        if len(answer) <= SMALL_REPLY:
            self._answering.admission.release(self.caller)
        else:
            hold(self._answering.admission, self.caller, answer)


def hold(admission: Admission, caller: Caller, reply: bytes) -> None:
    """Count a response until the call is over, which is when gRPC has sent it."""
    admission.answered(caller, COPIES * len(reply))
    current_task().add_done_callback(lambda _: admission.release(caller))
