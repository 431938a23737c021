"""Calls of every method: who may make them, what they are called in the log, how they end and how long they take."""

from __future__ import annotations

import asyncio
import gc
import logging
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from time import perf_counter
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from structlog.contextvars import bind_contextvars, get_contextvars

from gradwire_server.errors import Reason, Refusal, refuse, shown
from gradwire_server.service.capacity.admission import Admission
from gradwire_server.service.capacity.turned_away import TurnedAway
from gradwire_server.service.capacity.waits import Arrivals, Task, current_task
from gradwire_server.service.rpc.methods import CountingContext, Method, method_of, only_message
from gradwire_server.service.rpc.sending import Ending, Sending
from gradwire_server.service.rpc.status import Context, Packed, abort, pack
from gradwire_server.service.security.tokens import OPEN, Tokens
from gradwire_server.service.telemetry import request_ids
from gradwire_server.service.telemetry.metrics import CallMetrics, MethodMetrics, Stage
from gradwire_server.service.telemetry.otel import CallSpan, start_call
from gradwire_server.service.telemetry.spans import SPANS
from gradwire_server.version import VERSION

if TYPE_CHECKING:
    Handler = grpc.RpcMethodHandler[Any, Any]
else:
    Handler = grpc.RpcMethodHandler

LEEWAY, ROUNDING = 0.05, 0.01
"""Seconds, and share of its time, by which a call's deadline comes later here than to the caller, who then cancels:
the call travelled, and gRPC rounds."""


MAX_METADATA_BYTES = 16 << 10
"""Bytes of the metadata of a call, with what HTTP/2 counts for each. gRPC says so to clients, and holds those to it who
acknowledge that; others send megabytes."""

OVERHEAD = 32
"""Bytes that HTTP/2 counts for each of the metadata."""

MAX_UNCOLLECTED_BYTES = 16 << 20
"""Bytes of refused metadata after which garbage is collected: gRPC leaves a cycle of every call, which holds them."""

_FAULTS = frozenset({grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN, grpc.StatusCode.DATA_LOSS})
"""How calls end for which the server is to blame."""


class CountedHandlers(grpc.GenericRpcHandler):
    """The handlers of all services, in the place of interceptors, each of which would cost a call a tenth more.

    Generated code adds handlers to it as it would to a server, but they are found by name only: registered with
    gRPC, every method would have an accept request of its own, and each call would cost a wait over all of these.
    """

    def __init__(
        self,
        services: Sequence[ServiceDescriptor],
        metrics: CallMetrics,
        refused: Callable[[Reason], None],
        tokens: Tokens | None,
        admission: Admission,
        admitted: Collection[str],
        arrivals: Arrivals,
        sending: Sending,
    ) -> None:
        """``admitted`` are the full names of the methods that a busy server refuses before it reads a message."""
        self._metrics = metrics
        self._count_refused = refused
        self._tokens = tokens
        self._admission = admission
        self._arrivals = arrivals
        self._full = {resource: pack(refusal) for resource, refusal in admission.full.items()}
        self._services = ", ".join(service.full_name for service in services)
        self._kinds: dict[str, type[Message]] = {
            f"/{service.full_name}/{method.name}": GetMessageClass(method.input_type)
            for service in services
            for method in service.methods
        }
        self._admitted = admitted
        self.refused = TurnedAway("refused calls, unread", "info")
        """What the log says of those."""
        self._log = structlog.get_logger().bind()
        self._shared = _Shared(admission, arrivals, sending, self.refused, self._log.is_enabled_for(logging.DEBUG))
        self._methods: dict[str, Method] = {}
        self._uncollected = 0

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        """What generated code calls, as it would for a server."""
        for name, kind in self._kinds.items():
            for handler in handlers:
                found = handler.service(Details(name, ()))
                if found is not None:
                    self._methods[name] = method_of(found, kind, self._arrivals)

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """What generated code calls too."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """A handler for this call, which counts it; also calls to methods that there are not are counted.

        gRPC has it do the work at once, in the same step of the call's task.
        """
        details = handler_call_details
        request_id = request_ids.request_id(details.invocation_metadata)
        # Every line that is logged while the call's task runs has it.
        bind_contextvars(request_id=request_id)
        series = self._metrics.of(details.method)
        span = None
        if SPANS.tracer is not None and not details.method.startswith(OPEN):
            span = start_call(series.method, details.invocation_metadata, request_id)
        method = self._method(details)
        call = _UnaryCall if method.is_unary else _StreamCall
        return call(method, series, self._log, request_id, span, self._shared)

    def _method(self, details: grpc.HandlerCallDetails) -> Method:
        """The method of a call, or one that refuses it."""
        found = 0
        for key, value in details.invocation_metadata or ():
            found += len(key) + len(value) + OVERHEAD
        if found > MAX_METADATA_BYTES:
            self._uncollected += found
            if self._uncollected > MAX_UNCOLLECTED_BYTES:
                self._uncollected = found
                gc.collect()
            refusal = _metadata_too_large(found)
            return self._refused(refusal.reason, refusal)
        if self._tokens is None or details.method.startswith(OPEN):
            return self._open(details)
        if not self._tokens.are_old:
            return self._guarded(details, self._tokens)
        return self._later(details, self._tokens)

    def _later(self, details: grpc.HandlerCallDetails, tokens: Tokens) -> Method:
        """The method of a call that waits for the tokens to be read."""
        known = self._methods.get(details.method)

        async def later(context: Context) -> None:
            await tokens.read()
            method = self._guarded(details, tokens)
            if not method.is_unary:
                await method.behaviour(context)
                return
            message = await only_message(context, self._arrivals, current_task())
            await context.write(await method.behaviour(message, context))

        return Method(later, None if known is None else known.serializer)

    def _guarded(self, details: grpc.HandlerCallDetails, tokens: Tokens) -> Method:
        """The method of a call that may be made if it has a token."""
        refusal = tokens.refusal(details.method, details.invocation_metadata)
        return self._open(details) if refusal is None else self._refused(refusal.reason, refusal)

    def _open(self, details: grpc.HandlerCallDetails) -> Method:
        """The method of a call that may be made, if there is room for it."""
        lacking = self._admission.turns_away(admitted=details.method in self._admitted)
        if lacking is not None:
            return self._refused(Reason.OVERLOADED, self._full[lacking])
        return self._methods.get(details.method) or self._absent(details.method)

    def _refused(self, reason: Reason, refusal: Refusal | Packed) -> Method:
        """The method of a call that is refused before anything of it is read, of whatever kind."""
        self._count_refused(reason)
        bind_contextvars(reason=reason.value)

        async def refused(context: Context) -> None:
            await abort(context, refusal)

        # How many it turns away for want of room a busy server tells by itself.
        return Method(refused, refused=None if reason is Reason.OVERLOADED else reason.value)

    def _absent(self, method: str) -> Method:
        """The method for a name that there is not, of whatever kind; gRPC would not say what there is."""

        async def absent(context: Context) -> None:
            bind_contextvars(asked=shown(method, 200))
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"there is no method {shown(method, 200)} here; gradwire {VERSION} serves {self._services}",
            )

        return Method(absent, refused=grpc.StatusCode.UNIMPLEMENTED.name)


def _metadata_too_large(found: int) -> Refusal:
    return refuse(
        Reason.LIMIT_EXCEEDED,
        f"the metadata of the call have {found} bytes; this server takes at most {MAX_METADATA_BYTES}",
        found=found,
        limit=MAX_METADATA_BYTES,
    )


@dataclass
class Details:
    """What gRPC asks for a handler with."""

    method: str
    invocation_metadata: tuple[tuple[str, str | bytes], ...]


class _Shared(NamedTuple):
    """What all calls use."""

    admission: Admission
    arrivals: Arrivals
    sending: Sending
    refused: TurnedAway
    tells_all: bool
    """Whether the log has a line of every call."""


class _Call(Handler):
    """One call, and the handler that gRPC has for it alone: started when it is made, and handled exactly once.

    It reads for itself: gRPC would leave a call without its message unanswered.
    """

    request_streaming = True
    request_deserializer = None

    def __init__(
        self,
        method: Method,
        series: MethodMetrics,
        log: Any,  # noqa: ANN401  (a logger of structlog)
        request_id: str,
        span: CallSpan | None,
        shared: _Shared,
    ) -> None:
        self._admission, self._arrivals, self._sending, self._refused, self._tells_all = shared
        self._behaviour, self.response_serializer, _, self._cause = method
        self._series = series
        self._log = log
        self._trailers = ((request_ids.KEY, request_id),)
        self._span = span
        if span is not None:
            bind_contextvars(trace_id=span.trace_id)
        self._start = perf_counter()
        self._code = grpc.StatusCode.UNKNOWN
        self._error: BaseException | None = None
        self._context: Context | None = None
        self._peer: str | None = None
        series.started.inc()

    def _open(self, context: Context) -> None:
        """The call begins, whose status this context has, and whose caller learns the id from it."""
        self._context = context
        # Not later: gRPC crashes when it is asked after the call.
        self._peer = context.peer()
        context.set_trailing_metadata(self._trailers)
        self._admission.open()

    def _close(self, context: Context, task: Task, error: BaseException | None) -> None:
        """What the call does has ended, with this error or with an answer."""
        code: Any = context.code()
        if not isinstance(code, grpc.StatusCode):
            code = grpc.StatusCode.OK if error is None else self._code_of(type(error))
        self._code = code
        if error is None:
            self._sending.begin(task)
        else:
            _forget(error)
            self._error = error
        # What is sent is sent by gRPC, in this task.
        task.add_done_callback(self._end)

    def _end(self, task: Task) -> None:
        """The call is over: its answer was sent, or will not be."""
        self._admission.close()
        if self._error is not None:
            # It came through more frames meanwhile, which hold the metadata of the call.
            _forget(self._error)
        code, ending = self._code, self._sending.ended(task)
        if ending is Ending.HUNG_UP:
            code = self._code_of(asyncio.CancelledError) if code is grpc.StatusCode.OK else code
            bind_contextvars(stage=Stage.SENDING.value)
        elif ending is Ending.STALLED:
            code = grpc.StatusCode.DEADLINE_EXCEEDED
            bind_contextvars(stage=Stage.SENDING.value, reason=Reason.DEADLINE_EXCEEDED.value, setting="max_stall")
        seconds = perf_counter() - self._start
        span = self._span
        if span is None:
            self._series.ended(code, seconds)
        else:
            self._series.ended(code, seconds, span.exemplar)
            span.end(code)
        if code is not grpc.StatusCode.OK or self._cause is not None or self._tells_all:
            self._tell(code, seconds)

    def _code_of(self, kind: type[BaseException]) -> grpc.StatusCode:
        # InternalError: the caller hung up while it was sent a message or the status.
        if not issubclass(kind, asyncio.CancelledError | GeneratorExit | grpc.aio.InternalError):
            return grpc.StatusCode.UNKNOWN
        return grpc.StatusCode.DEADLINE_EXCEEDED if self._is_late() else grpc.StatusCode.CANCELLED

    def _is_late(self) -> bool:
        """Whether the caller ended the call because its deadline passed; the caller notices first."""
        left = None if self._context is None else self._context.time_remaining()
        return left is not None and left <= LEEWAY + ROUNDING * (perf_counter() - self._start + left)

    def _tell(self, code: grpc.StatusCode, seconds: float) -> None:
        """Log the call as handled, or count it among those that the log sums up."""
        bound = get_contextvars()
        # The log sums up those that are turned away; who hangs up on an answer wants none.
        hung_up = "stage" in bound and "reason" not in bound
        is_summed = self._cause is not None or bound.get("reason") == Reason.OVERLOADED
        if self._cause is not None:
            self._refused.count(self._cause, self._peer)
        is_usual = code is grpc.StatusCode.OK or hung_up or is_summed
        log = self._log.debug if is_usual else self._log.info
        if code in _FAULTS:
            log = self._log.warning
        log("call", method=self._series.method, code=code.name, seconds=round(seconds, 6), peer=self._peer)


def _forget(error: BaseException) -> None:
    """Let go of the frames that the end of a call came through, which hold its request.

    gRPC keeps the error with the call, and the frames hold the call: a cycle, of which Python takes notice much later.
    """
    if isinstance(error, grpc.aio.AbortError | asyncio.CancelledError):
        error.__context__ = error.__traceback__ = None


class _UnaryCall(_Call):
    """With one request and one response. It is its own handler, and looks awaitable.

    gRPC looks twice in every call whether a handler is asynchronous, and first whether it is awaitable: that a method
    is a coroutine function takes it three times as long to find.
    """

    response_streaming = False

    @property
    def stream_unary(self) -> _UnaryCall:  # type: ignore[override]  # its stubs know no grpc.aio
        """What gRPC calls."""
        return self

    def __await__(self) -> NoReturn:
        """Fail: nobody awaits a handler."""
        raise TypeError("a handler is called")

    async def __call__(self, _: object, context: Context) -> object:
        """Do it."""
        self._open(context)
        task = current_task()
        try:
            # In no variable: see _forget.
            response = await self._behaviour(self._counted(await only_message(context, self._arrivals, task)), context)
        except BaseException as error:
            self._close(context, task, error)
            raise
        self._close(context, task, None)
        self._series.sent.inc()
        return response

    def _counted(self, message: object) -> object:
        self._series.received.inc()
        return message


class _StreamCall(_Call):
    """Which reads and writes through its context."""

    response_streaming = True

    async def stream_stream(self, _: object, context: Context) -> None:  # type: ignore[override]  # see above
        """Do it."""
        self._open(context)
        try:
            await self._behaviour(CountingContext(context, self._series))
        except BaseException as error:
            self._close(context, current_task(), error)
            raise
        self._close(context, current_task(), None)
