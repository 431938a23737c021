"""Streams of requests and responses, in frames."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import suppress
from typing import Any

import grpc
import structlog
from structlog.contextvars import bind_contextvars

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.frames import chunk_of, message_in
from gradwire_server import codec
from gradwire_server.engine import Checkpoint, Program
from gradwire_server.errors import Reason, Refusal, refuse
from gradwire_server.service.capacity.caller import SHUTTING_DOWN, Caller
from gradwire_server.service.capacity.waits import Pace, TimeLimit, Waits, current_task
from gradwire_server.service.requests.logic import SMALL, Planned
from gradwire_server.service.rpc.answering import SMALL_BYTES, SMALL_REPLY, Answering, Exchange, seconds_to_read
from gradwire_server.service.rpc.frames import Assembler, Complete, Frames, response_frames
from gradwire_server.service.rpc.planning import Unprepared
from gradwire_server.service.rpc.sending import Sending
from gradwire_server.service.rpc.small import SmallRequests
from gradwire_server.service.rpc.status import Context, abort, error_frame, told
from gradwire_server.service.telemetry.metrics import Stage
from gradwire_server.service.telemetry.spans import SPANS

LAST_WORD = 0.1
"""Seconds in which the end of a stream, or its cancellation, arrives if it was sent before."""

_ENDS_STREAM = frozenset(
    {
        Reason.MALFORMED_MESSAGE,
        Reason.INVALID_FRAME,
        Reason.DEADLINE_EXCEEDED,
        Reason.CANCELLED,
        Reason.SHUTTING_DOWN,
    }
)

_log = structlog.get_logger()


class Streams:
    """Calls with many requests, which are answered one after another."""

    def __init__(
        self,
        answering: Answering,
        small: SmallRequests,
        waits: Waits,
        arrivals: Waits,
        sending: Sending,
        max_stall: float,
    ) -> None:
        self._answering = answering
        self._small = small
        self._waits = waits
        """Streams waiting for their next request."""
        self._arrivals = arrivals
        """Streams waiting in the middle of a request."""
        self._sending = sending
        self._max_stall = max_stall
        """Seconds that a stream may stand still in the middle of a request or a response."""
        self._writes = TimeLimit(max_stall)

    async def answer(self, context: Context) -> None:
        """Answer all requests of a stream; whatever is wrong with it ends it with a status."""
        try:
            await self._stream(context)
        except Exception as error:  # noqa: BLE001  (a status tells of it)
            await self._answering.fail(context, "StreamGradients", error)

    async def _stream(self, context: Context) -> None:
        assembler, pace = Assembler(self._answering.logic.limits), Pace(self._max_stall)
        caller, answers = Caller(None), False
        try:
            while (raw := await self._next(context, assembler, pace)) is not grpc.aio.EOF:
                self._answering.metrics.received(len(raw))
                if assembler.idle:
                    caller = Caller(context.time_remaining())
                replies = await self._answer_frame(context, assembler, caller, raw)
                if replies and not answers:
                    # Not with the first of them: where nobody reads it, no status could follow.
                    await context.send_initial_metadata(())
                    answers = True
                if replies:
                    with SPANS.part("send"):
                        for reply in replies:
                            await self._write(context, reply)
                if assembler.idle:
                    self._answering.admission.release(caller)
        finally:
            self._answering.admission.release(caller)
        # A call that was cancelled seems to end its messages first; word of that comes at once or a little later.
        await asyncio.sleep(0 if assembler.idle else LAST_WORD)
        assembler.end()

    async def _next(self, context: Context, assembler: Assembler, pace: Pace) -> Any:  # noqa: ANN401  (bytes, or grpc.aio's EOF)
        if not assembler.idle:
            return await self._rest(context, assembler, pace)
        pace.begin()
        if self._waits.ended:
            return await self._end_of_stream(context)
        with self._waits:
            return await context.read()

    async def _rest(self, context: Context, assembler: Assembler, pace: Pace) -> Any:  # noqa: ANN401  (as above)
        """More of a request that has begun."""
        try:
            async with asyncio.timeout(pace.left(assembler.lacking)):
                with self._arrivals:
                    return await context.read()
        except TimeoutError:
            self._answering.metrics.cancelled(Stage.RECEIVING)
            raise assembler.stalled(self._max_stall) from None

    async def _write(self, context: Context, reply: bytes) -> None:
        try:
            with self._writes:
                await context.write(reply)
        except TimeoutError:
            self._answering.metrics.cancelled(Stage.SENDING)
            refusal = refuse(
                Reason.DEADLINE_EXCEEDED,
                f"nobody read a response for {self._max_stall:g} s (max_stall)",
                setting="max_stall",
            )
            bind_contextvars(stage=Stage.SENDING.value, **told(refusal))
            # The status waits behind what nobody reads.
            with suppress(TimeoutError), self._writes:
                await abort(context, refusal)
            self._sending.give_up(current_task())
            raise asyncio.CancelledError from None
        except asyncio.CancelledError:
            self._answering.metrics.cancelled(Stage.SENDING)
            bind_contextvars(stage=Stage.SENDING.value)
            raise
        self._answering.metrics.sent(len(reply))

    async def _end_of_stream(self, context: Context) -> Any:  # noqa: ANN401  (grpc.aio's EOF)
        """A caller who has ended the stream already is not told that the server drains."""
        with suppress(TimeoutError):
            async with asyncio.timeout(LAST_WORD):
                raw: Any = await context.read()
                if raw is grpc.aio.EOF:
                    return raw
        raise refuse(Reason.SHUTTING_DOWN, SHUTTING_DOWN)

    async def _answer_frame(
        self, context: Context, assembler: Assembler, caller: Caller, raw: bytes
    ) -> Iterable[bytes]:
        self._answering.check_size(raw)
        whole = message_in(raw) if assembler.idle else None
        known = None if whole is None else self._small.find(raw, whole[1])
        try:
            if whole is not None and known is not None:
                tag, start = whole
                assembler.begin_known(tag)
                replies = self._small.framed(known, raw, start, tag, caller)
                if replies is not None:
                    return replies
            complete = await self._feed(context, assembler, caller, raw)
            if not assembler.idle or len(raw) > SMALL_BYTES:
                self._answering.admission.receive(caller, len(raw))
            if complete is not None:
                exchange = _FramedExchange(context, caller, self._answering, assembler.tag, *complete)
                replies = await self._answering.answer(exchange)
                if whole is not None and known is None:
                    self._small.learn(raw, whole[1], complete[0])
                return replies
        except Refusal as refusal:
            if _ends_stream(refusal):
                raise
            assembler.skip()
            self._answering.metrics.refused(refusal.reason)
            log = _log.debug if refusal.reason is Reason.OVERLOADED else _log.info
            log("refused", method="StreamGradients", tag=assembler.tag, **told(refusal))
            return (error_frame(assembler.tag, refusal).SerializeToString(),)
        return ()

    async def _feed(self, context: Context, assembler: Assembler, caller: Caller, raw: bytes) -> Complete | None:
        chunk = chunk_of(raw, assembler.tag)
        if chunk is not None:
            return assembler.feed_chunk(assembler.tag, chunk)
        if len(raw) <= SMALL_BYTES:
            frame = assembler.parse(raw)
            if len(frame.head.framed) <= SMALL:
                return assembler.feed(frame)
        caller.name = context.peer()
        return await self._answering.work.run(
            caller, seconds_to_read(len(raw)), lambda: assembler.feed(assembler.parse(raw))
        )


class _FramedExchange(Exchange[Frames, Frames]):
    def __init__(
        self,
        context: Context,
        caller: Caller,
        answering: Answering,
        tag: int,
        request: pb.ComputeGradientsRequest,
        framed: dict[str, codec.Array],
    ) -> None:
        super().__init__(context, caller)
        self._answering = answering
        self._tag, self._request, self._framed = tag, request, framed

    def size(self) -> int:
        return self._request.ByteSize()

    def plan_at_once(self) -> Planned[Frames] | None:
        program = self._answering.logic.at_hand(self._request, self._framed)
        if program is None:
            return None
        with SPANS.part("decode"):
            return self._with(program, self.caller.checkpoint)

    def plan(self) -> Planned[Frames] | Unprepared[Frames]:
        return self._answering.planner.with_program(self._request, self._with, self.caller.checkpoint)

    def _with(self, program: Program | None, checkpoint: Checkpoint) -> Planned[Frames]:
        tag = self._tag
        prepared = self._answering.planner.prepare(self._request, self._framed, program, checkpoint)

        def run(checkpoint: Checkpoint) -> Frames:
            return response_frames(tag, *prepared.evaluate(checkpoint), checkpoint)

        return Planned(prepared.cost, prepared.memory, run, prepared.job.result_bytes)

    def reserve(self, planned: Planned[Frames]) -> None:
        """Take memory, and room for a response that takes the place of its request, whose results it is."""
        self._answering.admission.reserve_in_place(self.caller, planned.memory, planned.reply)

    def compute(self, planned: Planned[Frames]) -> Frames:
        with SPANS.part("compute"):
            return planned.run(self.caller.checkpoint)

    def hold(self, planned: Planned[Frames], answer: Frames) -> None:
        """Count the response until the stream has written it."""
        admission = self._answering.admission
        if planned.reply <= SMALL_REPLY:
            admission.release(self.caller)
            return
        admission.answered(self.caller, planned.reply)


def _ends_stream(refusal: Refusal) -> bool:
    """Whether more than one request is concerned; the time that the server gives is each one's own."""
    return refusal.reason in _ENDS_STREAM and refusal.findings[0].metadata.get("setting") != "max_seconds"
