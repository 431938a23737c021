"""Calls of every method: who may make them, what they are called in the log, how they end and how long they take."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from time import perf_counter
from typing import TYPE_CHECKING, Any

import grpc
import structlog
from google.protobuf.descriptor import ServiceDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from structlog.contextvars import bind_contextvars, get_contextvars

from gradwire_server import codec
from gradwire_server.errors import Reason, Refusal, refuse, shown
from gradwire_server.service import request_ids
from gradwire_server.service.admission import Admission
from gradwire_server.service.metrics import CallMetrics, MethodMetrics
from gradwire_server.service.status import Packed, abort, pack
from gradwire_server.service.tokens import OPEN, Tokens
from gradwire_server.service.tracing import CallSpan, start_call
from gradwire_server.version import VERSION

if TYPE_CHECKING:
    Context = grpc.aio.ServicerContext[Any, Any]
    Handler = grpc.RpcMethodHandler[Any, Any]

Behaviour = Callable[..., Any]

NO_MESSAGE = "the call ended before its message was there; send one, whole"

LAST_WORD = 0.1
"""Seconds in which word comes that a call is cancelled, which seems to end its messages first. So does a message
larger than gRPC takes: gRPC tells the caller so, but not the server."""

LEEWAY, ROUNDING = 0.05, 0.01
"""Seconds, and share of its time, by which a call's deadline comes later here than to the caller, who then cancels:
the call travelled, and gRPC rounds."""


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
    ) -> None:
        """``admitted`` are the full names of the methods that a busy server refuses before it reads a message."""
        self._metrics = metrics
        self._count_refused = refused
        self._tokens = tokens
        self._admission = admission
        self._full = pack(admission.full)
        self._services = ", ".join(service.full_name for service in services)
        self._kinds: dict[str, type[Message]] = {
            f"/{service.full_name}/{method.name}": GetMessageClass(method.input_type)
            for service in services
            for method in service.methods
        }
        self._admitted = admitted
        self._log = structlog.get_logger().bind()
        self._handlers: list[grpc.GenericRpcHandler] = []
        self.add_generic_rpc_handlers = self._handlers.extend

    def add_registered_method_handlers(self, service: str, handlers: object) -> None:
        """What generated code calls too."""

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Handler:
        """The method's handler, which counts this call; also calls to methods that there are not are counted."""
        details = handler_call_details
        request_id = request_ids.request_id(details.invocation_metadata)
        series = self._metrics.of(details.method)
        span = None
        if not details.method.startswith(OPEN):
            span = start_call(series.method, details.invocation_metadata, request_id)
        call = _Call(series, self._log, request_id, span)
        task = asyncio.current_task()
        if task is not None:
            task.add_done_callback(call.forsaken)
        return _counted(call, self._handler(details))

    def _handler(self, details: grpc.HandlerCallDetails) -> Handler:
        if self._tokens is not None:
            refusal = self._tokens.refusal(details.method, details.invocation_metadata)
            if refusal is not None:
                return self._refused(refusal.reason, refusal)
        if details.method in self._admitted and self._admission.turns_away():
            return self._refused(Reason.OVERLOADED, self._full)
        for handlers in self._handlers:
            handler = handlers.service(details)
            if handler is not None:
                return _raw(handler, self._kinds[details.method])
        return self._absent(details.method)

    def _refused(self, reason: Reason, refusal: Refusal | Packed) -> Handler:
        """Of a call that is refused before anything of it is read, of whatever kind."""
        self._count_refused(reason)
        bind_contextvars(reason=reason.value)

        async def refused(_: object, context: Context) -> None:
            await abort(context, refusal)

        return grpc.stream_stream_rpc_method_handler(refused)

    def _absent(self, method: str) -> Handler:
        """Of a method that there is not, of whatever kind; gRPC would not say what there is."""

        async def absent(_: object, context: Context) -> None:
            await context.abort(
                grpc.StatusCode.UNIMPLEMENTED,
                f"there is no method {shown(method, 200)} here; gradwire {VERSION} serves {self._services}",
            )

        return grpc.stream_stream_rpc_method_handler(absent)


class _Call:
    """One call: started when it is made, and handled exactly once.

    As a context manager around the handler it takes the status from how that ends.
    """

    def __init__(
        self,
        series: MethodMetrics,
        log: Any,  # noqa: ANN401  (a logger of structlog)
        request_id: str,
        span: CallSpan | None,
    ) -> None:
        self.series = series
        self._log = log
        self._trailers = ((request_ids.KEY, request_id),)
        # Every line that is logged while the call's task runs has it.
        bind_contextvars(request_id=request_id)
        self._span = span
        if span is not None:
            bind_contextvars(trace_id=span.trace_id)
        self._start = perf_counter()
        self._open = True
        self._context: Context | None = None
        series.started.inc()

    def during(self, context: Context) -> _Call:
        """The same call, whose status this context has, and whose caller learns the id from it."""
        self._context = context
        context.set_trailing_metadata(self._trailers)
        return self

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        code = None if self._context is None else self._context.code()
        if isinstance(code, grpc.StatusCode):
            self.end(code)
        elif kind is None:
            self.end(grpc.StatusCode.OK)
        elif issubclass(kind, asyncio.CancelledError | GeneratorExit):
            self.end(grpc.StatusCode.DEADLINE_EXCEEDED if self._is_late() else grpc.StatusCode.CANCELLED)
        else:
            self.end(grpc.StatusCode.UNKNOWN)

    def _is_late(self) -> bool:
        """Whether the caller ended the call because its deadline passed; the caller notices first."""
        left = None if self._context is None else self._context.time_remaining()
        return left is not None and left <= LEEWAY + ROUNDING * (perf_counter() - self._start + left)

    def end(self, code: grpc.StatusCode) -> None:
        """Count the call as handled, unless it is already."""
        if self._open:
            self._open = False
            seconds = perf_counter() - self._start
            self.series.handled[code].inc()
            self.series.seconds.observe(seconds)
            # Of those that it turns away a busy server logs how many there are.
            is_usual = code is grpc.StatusCode.OK or get_contextvars().get("reason") == Reason.OVERLOADED
            log = self._log.debug if is_usual else self._log.info
            if code in _FAULTS:
                log = self._log.warning
            if self._span is not None:
                self._span.end(code)
            log("call", method=self.series.method, code=code.name, seconds=round(seconds, 6))

    def forsaken(self, _: object) -> None:
        """The call's task is over, perhaps before its handler began; then nothing is known of its deadline."""
        self.end(grpc.StatusCode.CANCELLED)


class _CountingContext:
    """A context that counts messages as they are read and written; all else is that of gRPC."""

    def __init__(self, context: Context, series: MethodMetrics) -> None:
        self._context = context
        self._series = series

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._context, name)

    async def read(self) -> Any:  # noqa: ANN401
        message = await self._context.read()
        if message is not grpc.aio.EOF:
            self._series.received.inc()
        return message

    async def write(self, message: Any) -> None:  # noqa: ANN401
        try:
            await self._context.write(message)
        except grpc.aio.InternalError:
            # The call is over, and word of that is on its way; gRPC would log the write as a fault.
            raise asyncio.CancelledError from None
        self._series.sent.inc()


def _raw(handler: Handler, kind: type[Message]) -> Handler:
    """The handler on bytes. What does not parse gRPC would answer with UNKNOWN, and log with a trace."""
    if handler.request_deserializer is None:
        return handler
    serializer = handler.response_serializer
    if handler.unary_unary is not None:
        return grpc.unary_unary_rpc_method_handler(_parsing(handler.unary_unary, kind), None, serializer)
    if handler.unary_stream is not None:
        return grpc.unary_stream_rpc_method_handler(_parsing(handler.unary_stream, kind), None, serializer)
    behaviour: Any = handler.stream_stream
    return grpc.stream_stream_rpc_method_handler(_parsing_each(behaviour, kind), None, serializer)


def _parsing(behaviour: Behaviour, kind: type[Message]) -> Behaviour:
    """Of a handler that takes one request."""

    async def parsing(raw: bytes, context: Context) -> object:
        return await behaviour(await _parse(kind, raw, context), context)

    return parsing


def _parsing_each(behaviour: Behaviour, kind: type[Message]) -> Behaviour:
    """Of a handler that takes an iterator of requests and yields responses."""

    async def parsed(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[Message]:
        async for raw in requests:
            yield await _parse(kind, raw, context)

    async def parsing(requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[object]:
        async for response in behaviour(parsed(requests, context), context):
            yield response

    return parsing


async def _parse(kind: type[Message], raw: bytes, context: Context) -> Message:
    try:
        return codec.parse(kind, raw)
    except Refusal as refusal:
        await abort(context, refusal)


def _counted(call: _Call, handler: Handler) -> Handler:
    """The handler as one that reads for itself: gRPC would leave a call without its message unanswered."""
    codec = handler.request_deserializer, handler.response_serializer
    if handler.unary_unary is not None:
        return grpc.stream_unary_rpc_method_handler(_unary(call, handler.unary_unary), *codec)
    if handler.unary_stream is not None:
        return grpc.stream_stream_rpc_method_handler(_server_stream(call, handler.unary_stream), *codec)
    behaviour: Any = handler.stream_stream
    wrap = _generator if inspect.isasyncgenfunction(behaviour) else _coroutine
    return grpc.stream_stream_rpc_method_handler(wrap(call, behaviour), *codec)


def _unary(call: _Call, behaviour: Behaviour) -> Behaviour:
    """Of a handler that takes one request and gives one response."""

    async def unary(_: object, context: Context) -> object:
        with call.during(context):
            response = await behaviour(await _only_message(call, context), context)
        call.series.sent.inc()
        return response

    return unary


def _server_stream(call: _Call, behaviour: Behaviour) -> Behaviour:
    """Of a handler that takes one request and writes through its context."""

    async def server_stream(_: object, context: Context) -> None:
        with call.during(context):
            await behaviour(await _only_message(call, context), _CountingContext(context, call.series))

    return server_stream


async def _only_message(call: _Call, context: Context) -> Any:  # noqa: ANN401
    message: Any = await context.read()
    if message is grpc.aio.EOF:
        await asyncio.sleep(LAST_WORD)
        await abort(context, refuse(Reason.MALFORMED_MESSAGE, NO_MESSAGE))
    call.series.received.inc()
    return message


def _coroutine(call: _Call, behaviour: Behaviour) -> Behaviour:
    """Of a handler that reads and writes through its context."""

    async def coroutine(request: object, context: Context) -> None:
        with call.during(context):
            await behaviour(request, _CountingContext(context, call.series))

    return coroutine


def _generator(call: _Call, behaviour: Behaviour) -> Behaviour:
    """Of a handler that takes an iterator of requests and yields responses."""

    async def counted(requests: AsyncIterator[object]) -> AsyncIterator[object]:
        async for request in requests:
            call.series.received.inc()
            yield request

    async def generator(requests: AsyncIterator[object], context: Context) -> AsyncIterator[object]:
        with call.during(context):
            async for response in behaviour(counted(requests), context):
                call.series.sent.inc()
                yield response

    return generator
