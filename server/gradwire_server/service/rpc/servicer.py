"""The gRPC methods: bytes in, bytes out, and a status for everything that can be wrong."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import partial
from math import inf
from time import monotonic
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar
from uuid import uuid4

import grpc
import structlog
from google.protobuf.message import Message
from structlog.contextvars import bind_contextvars

from gradwire.v1 import gradient_service_pb2 as pb
from gradwire.v1.chunks import chunk_of
from gradwire_server import codec
from gradwire_server.engine import Checkpoint, Program
from gradwire_server.errors import Reason, Refusal, refuse
from gradwire_server.service.capacity.admission import Admission
from gradwire_server.service.capacity.caller import SHUTTING_DOWN, Caller
from gradwire_server.service.capacity.waits import TimeLimit, Waits, current_task
from gradwire_server.service.capacity.work import Work
from gradwire_server.service.requests.logic import SMALL, GradientLogic, Prepared, ProgramRequest, reply_too_large
from gradwire_server.service.rpc.frames import Assembler, Complete, response_frames
from gradwire_server.service.rpc.sending import Sending
from gradwire_server.service.rpc.status import abort, error_frame, told
from gradwire_server.service.telemetry.metrics import Metrics, Stage
from gradwire_server.service.telemetry.spans import SPANS

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[bytes, bytes]

P = TypeVar("P")
R = TypeVar("R", bound=Message)

SMALL_BYTES = 1 << 18
SMALL_SECONDS = 1e-3
SMALL_MEMORY = 1 << 20
"""What the event loop parses and computes itself, of requests whose program is at hand (``GradientLogic.at_hand``);
all else goes to a thread, so that no other call waits for it."""

PROGRESS = 1 << 20
"""Bytes of a request on a stream, of which less must not come in the time in which it may stand still."""

SECONDS_PER_BYTE = 2e-8
"""Seconds to parse and check a byte of a request, roughly; graphs take more, tensors less."""

DOUBT = 10
"""How many times as long as it may take a request is estimated to take before it is refused for that."""

SMALL_REPLY = 4096
"""Bytes of a response up to which it takes no more than the call itself, and is not counted."""

COPIES = 2
"""Copies of a unary response while it is sent: Python has one, and gRPC another."""

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


class Step(NamedTuple):
    """Work that was checked and is ready to run, with rough estimates of the seconds and the memory that it takes."""

    cost: float
    run: Callable[[Checkpoint], Message]
    memory: int = 0
    reply: int = 0
    """Bytes of the response, where they are many."""


class First(NamedTuple):
    """Work that comes before a step, with the same estimates: it prepares the graph of a request."""

    cost: float
    run: Callable[[Checkpoint], Step]
    memory: int


Begin = Callable[[R, Checkpoint], Step | First]
"""Checks a request."""

Check = Callable[[R, Program | None, Checkpoint], Step]
"""Checks a request whose program is known, or prepares it."""

BeginQuickly = Callable[[R], Step | None]
"""Checks a request on the event loop; None for one that takes too long to check there."""


class GradientServicer:
    """The methods of gradwire.v1.GradientService on messages that are not parsed yet.

    gRPC would answer bytes that do not parse with INTERNAL, before any handler runs.
    """

    def __init__(
        self,
        logic: GradientLogic,
        work: Work,
        admission: Admission,
        waits: Waits,
        arrivals: Waits,
        metrics: Metrics,
        sending: Sending,
        max_stall: float,
    ) -> None:
        self._logic = logic
        self._limits = logic.limits.of_engine()
        self._work = work
        self._admission = admission
        self._waits = waits
        """Streams waiting for their next request."""
        self._arrivals = arrivals
        """Streams waiting in the middle of a request."""
        self._metrics = metrics
        self._sending = sending
        self._max_stall = max_stall
        """Seconds that a stream may stand still in the middle of a request or a response."""
        self._writes = TimeLimit(max_stall)

    async def RegisterGraph(self, raw: bytes, context: Context) -> bytes:  # noqa: N802
        """Check a graph and keep it."""
        return await self._unary(context, pb.RegisterGraphRequest, raw, self._register)

    async def ComputeGradients(self, raw: bytes, context: Context) -> bytes:  # noqa: N802
        """Evaluate and differentiate."""
        return await self._unary(
            context, pb.ComputeGradientsRequest, raw, self._checked(self._compute), self._quick_compute
        )

    async def TraceGraph(self, raw: bytes, context: Context) -> bytes:  # noqa: N802
        """Show every value and gradient of one example."""
        return await self._unary(context, pb.TraceGraphRequest, raw, self._checked(self._trace))

    async def CheckGradients(self, raw: bytes, context: Context) -> bytes:  # noqa: N802
        """Compare with finite differences."""
        return await self._unary(context, pb.CheckGradientsRequest, raw, self._checked(self._check))

    async def GetServerInfo(self, raw: bytes, context: Context) -> bytes:  # noqa: N802
        """Tell version, ops and limits."""
        step = Step(0, lambda _: self._logic.info())
        return await self._unary(context, pb.GetServerInfoRequest, raw, lambda *_: step, lambda _: step)

    async def StreamGradients(self, _: object, context: Context) -> None:  # noqa: N802
        """Evaluate and differentiate many times."""
        try:
            await self._stream(context)
        except Exception as error:  # noqa: BLE001  (a status tells of it)
            await self._fail(context, "StreamGradients", error)

    async def _fail(self, context: Context, method: str, error: Exception) -> NoReturn:
        """End a call that raised; whatever went wrong becomes a status."""
        if isinstance(error, grpc.aio.BaseError):
            raise error
        if isinstance(error, Refusal):
            self._metrics.refused(error.reason)
            # For the line of the call.
            bind_contextvars(**told(error))
            await abort(context, error)
        # Its text is not for the caller.
        await abort(context, self._fault(method))

    def _fault(self, method: str) -> Refusal:
        error_id = uuid4().hex
        _log.exception("internal error", method=method, error_id=error_id)
        self._metrics.refused(Reason.INTERNAL)
        return refuse(Reason.INTERNAL, f"internal error; the server's log has it under {error_id}", error_id=error_id)

    # Unary calls.

    async def _unary(
        self, context: Context, kind: type[R], raw: bytes, begin: Begin[R], begin_quickly: BeginQuickly[R] | None = None
    ) -> bytes:
        self._metrics.received(len(raw))
        try:
            reply = await self._answer(context, kind, raw, begin, begin_quickly)
        except Exception as error:  # noqa: BLE001  (a status tells of it)
            await self._fail(context, kind.DESCRIPTOR.name.removesuffix("Request"), error)
        self._metrics.sent(len(reply))
        return reply

    async def _answer(
        self,
        context: Context,
        kind: type[R],
        raw: bytes,
        begin: Begin[R],
        begin_quickly: BeginQuickly[R] | None,
    ) -> bytes:
        caller = Caller(context.time_remaining())
        self._admission.check(caller)
        self._check_size(raw)
        step: Step | First | None = None
        if begin_quickly is not None and len(raw) <= SMALL_BYTES:
            with SPANS.part("decode"):
                step = begin_quickly(codec.parse(kind, raw, self._limits))
            if step is not None and step.cost <= SMALL_SECONDS and step.memory <= SMALL_MEMORY:
                return self._held(caller, self._reply(caller, step))
        caller.name = context.peer()
        try:
            self._admission.admit(caller, len(raw))
            if step is None:
                step = await self._work.run(caller, _seconds(len(raw)), lambda: self._begun(caller, kind, raw, begin))
            if isinstance(step, First):
                step = await self._prepare(caller, step.cost, step.memory, step.run)
            checked = step
            self._admission.reserve(caller, checked.memory, COPIES * checked.reply)
            reply = await self._work.run(caller, checked.cost, lambda: self._reply(caller, checked))
        except BaseException:
            self._admission.release(caller)
            raise
        return self._held(caller, reply)

    def _held(self, caller: Caller, reply: bytes) -> bytes:
        """A response that counts until the call is over, which is when gRPC has sent it."""
        if len(reply) <= SMALL_REPLY:
            self._admission.release(caller)
            return reply
        self._admission.answered(caller, COPIES * len(reply))
        current_task().add_done_callback(lambda _: self._admission.release(caller))
        return reply

    async def _prepare(self, caller: Caller, cost: float, memory: int, run: Callable[[Checkpoint], P]) -> P:
        """Prepare a graph, in memory that the request has until then."""

        def prepare() -> P:
            with SPANS.part("decode"):
                return run(caller.checkpoint)

        self._admission.reserve(caller, memory)
        result = await self._work.run(caller, cost, prepare)
        self._admission.give_back(caller, memory)
        return result

    def _begun(self, caller: Caller, kind: type[R], raw: bytes, begin: Begin[R]) -> Step | First:
        with SPANS.part("decode"):
            return begin(codec.parse(kind, raw, self._limits), caller.checkpoint)

    def _check_size(self, raw: bytes) -> None:
        limit = self._logic.limits.max_message_bytes
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

    def _reply(self, caller: Caller, step: Step) -> bytes:
        caller.checkpoint()
        with SPANS.part("compute"):
            response = step.run(caller.checkpoint)
        with SPANS.part("encode"):
            found = response.ByteSize()
            if found > self._logic.limits.max_message_bytes:
                raise reply_too_large(found, self._logic.limits, "ask for less or use StreamGradients")
            return response.SerializeToString()

    def _register(self, request: pb.RegisterGraphRequest, _: Checkpoint) -> Step:
        found = self._logic.find(request)
        cost, memory = found if isinstance(found, codec.Preparation) else (0, 0)
        return Step(cost, partial(self._logic.register_graph, request), memory)

    def _checked(self, check: Check[Any]) -> Begin[Any]:
        """Checks a request once its graph is prepared."""

        def begin(request: ProgramRequest, checkpoint: Checkpoint) -> Step | First:
            found = self._logic.find(request)
            if isinstance(found, codec.Preparation):
                return First(found.cost, partial(check, request, None), found.memory)
            return check(request, found, checkpoint)

        return begin

    def _quick_compute(self, request: pb.ComputeGradientsRequest) -> Step | None:
        program = self._logic.at_hand(request)
        return None if program is None else self._step(self._logic.prepare_compute(request, program=program))

    def _compute(self, request: pb.ComputeGradientsRequest, program: Program | None, checkpoint: Checkpoint) -> Step:
        return self._step(self._logic.prepare_compute(request, program=program, checkpoint=checkpoint))

    def _check_cost(self, seconds: float) -> None:
        limits = self._logic.limits
        if seconds > DOUBT * limits.max_seconds * self._logic.threads:
            raise refuse(
                Reason.LIMIT_EXCEEDED,
                f"the request would compute for about {seconds:.1e} s on one core; this server lets one compute for "
                f"{limits.max_seconds} s (max_seconds) on {self._logic.threads} threads; send fewer examples at a "
                "time, or a smaller graph",
                found=f"{seconds:.1e}",
                limit=limits.max_seconds,
                setting="max_seconds",
            )

    def _trace(self, request: pb.TraceGraphRequest, program: Program | None, checkpoint: Checkpoint) -> Step:
        planned = self._logic.prepare_trace(request, checkpoint, program)
        self._check_cost(planned.cost)
        return Step(planned.cost, planned.run, planned.memory, planned.reply)

    def _check(self, request: pb.CheckGradientsRequest, program: Program | None, checkpoint: Checkpoint) -> Step:
        planned = self._logic.prepare_check(request, checkpoint, program)
        self._check_cost(planned.cost)
        return Step(planned.cost, planned.run, planned.memory)

    def _step(self, prepared: Prepared) -> Step:
        self._check_cost(prepared.cost)
        if prepared.reply_bytes > self._logic.limits.max_message_bytes:
            raise reply_too_large(
                prepared.reply_bytes, self._logic.limits, "ask for fewer gradients or use StreamGradients"
            )
        return Step(prepared.cost, prepared.run, prepared.job.memory, prepared.reply_bytes)

    # Streams.

    async def _stream(self, context: Context) -> None:
        assembler, pace = Assembler(self._logic.limits), _Pace(self._max_stall)
        caller, answers = Caller(None), False
        try:
            while (raw := await self._next(context, assembler, pace)) is not grpc.aio.EOF:
                self._metrics.received(len(raw))
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
                    self._admission.release(caller)
        finally:
            self._admission.release(caller)
        # A call that was cancelled seems to end its messages first; word of that comes at once or a little later.
        await asyncio.sleep(0 if assembler.idle else LAST_WORD)
        assembler.end()

    async def _next(self, context: Context, assembler: Assembler, pace: _Pace) -> Any:  # noqa: ANN401  (bytes, or grpc.aio's EOF)
        if not assembler.idle:
            return await self._rest(context, assembler, pace)
        pace.begin()
        if self._waits.ended:
            return await self._end_of_stream(context)
        with self._waits:
            return await context.read()

    async def _rest(self, context: Context, assembler: Assembler, pace: _Pace) -> Any:  # noqa: ANN401  (as above)
        """More of a request that has begun."""
        try:
            async with asyncio.timeout(pace.left(assembler.lacking)):
                with self._arrivals:
                    return await context.read()
        except TimeoutError:
            self._metrics.cancelled(Stage.RECEIVING)
            raise assembler.stalled(self._max_stall) from None

    async def _write(self, context: Context, reply: bytes) -> None:
        try:
            with self._writes:
                await context.write(reply)
        except TimeoutError:
            self._metrics.cancelled(Stage.SENDING)
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
            self._metrics.cancelled(Stage.SENDING)
            bind_contextvars(stage=Stage.SENDING.value)
            raise
        self._metrics.sent(len(reply))

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
        self._check_size(raw)
        try:
            complete = await self._feed(context, assembler, caller, raw)
            if not assembler.idle or len(raw) > SMALL_BYTES:
                self._admission.receive(caller, len(raw))
            if complete is not None:
                return await self._compute_framed(context, caller, assembler.tag, *complete)
        except Refusal as refusal:
            if _ends_stream(refusal):
                raise
            assembler.skip()
            self._metrics.refused(refusal.reason)
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
        return await self._work.run(caller, _seconds(len(raw)), lambda: assembler.feed(assembler.parse(raw)))

    async def _compute_framed(
        self,
        context: Context,
        caller: Caller,
        tag: int,
        request: pb.ComputeGradientsRequest,
        framed: dict[str, codec.Array],
    ) -> Iterable[bytes]:
        def prepare(program: Program | None) -> Prepared:
            with SPANS.part("decode"):
                return self._logic.prepare_compute(request, framed, program, caller.checkpoint)

        def answer(prepared: Prepared) -> Iterable[bytes]:
            with SPANS.part("compute"):
                return response_frames(tag, *prepared.evaluate(caller.checkpoint), caller.checkpoint)

        self._admission.check(caller)
        program = self._logic.at_hand(request, framed)
        prepared = None
        if program is not None:
            prepared = prepare(program)
            if prepared.cost <= SMALL_SECONDS and prepared.job.memory <= SMALL_MEMORY:
                frames = answer(prepared)
                if prepared.reply_bytes > SMALL_REPLY:
                    self._admission.answered(caller, prepared.reply_bytes)
                return frames
        caller.name = context.peer()
        self._admission.admit(caller)
        if prepared is None:
            seconds, found = _seconds(request.ByteSize()), None
            if request.HasField("graph"):
                found = await self._work.run(caller, seconds, lambda: self._logic.find(request))
            if isinstance(found, codec.Preparation):
                prepared = await self._prepare(caller, *found, lambda _: prepare(None))
            else:
                known = found
                prepared = await self._work.run(caller, seconds, lambda: prepare(known))
        checked = prepared
        self._check_cost(checked.cost)
        self._admission.reserve_in_place(caller, checked.job.memory, checked.reply_bytes)
        frames = await self._work.run(caller, checked.cost, lambda: answer(checked))
        self._admission.answered(caller, checked.reply_bytes)
        return frames


class _Pace:
    """Until when the next part of a request on a stream must have come."""

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


def _seconds(nbytes: int) -> float:
    """Rough estimate of the time to parse and check a request of so many bytes."""
    return SECONDS_PER_BYTE * nbytes


def _ends_stream(refusal: Refusal) -> bool:
    """Whether more than one request is concerned; the time that the server gives is each one's own."""
    return refusal.reason in _ENDS_STREAM and refusal.findings[0].metadata.get("setting") != "max_seconds"
