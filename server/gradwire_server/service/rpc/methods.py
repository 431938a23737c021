"""Handlers as generated code makes them, as methods on bytes that all calls have in one form, and their messages."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from functools import partial
from typing import Any, NamedTuple

import grpc
from google.protobuf.message import Message
from structlog.contextvars import bind_contextvars

from gradwire_server import codec
from gradwire_server.errors import Reason, Refusal, refuse
from gradwire_server.service.capacity.waits import Arrivals, Task, current_task
from gradwire_server.service.rpc.status import Context, abort, told
from gradwire_server.service.telemetry.metrics import MethodMetrics

Behaviour = Callable[..., Awaitable[Any]]
"""Unary: behaviour(message, context). Otherwise: behaviour(context)."""

NO_MESSAGE = "the call ended before its message was there; send one, whole"

LAST_WORD = 0.1
"""Seconds in which word comes that a call is cancelled, which seems to end its messages first. So does a message
larger than gRPC takes: gRPC tells the caller so, but not the server."""


class Method(NamedTuple):
    """What calls of one method do."""

    behaviour: Behaviour
    serializer: Callable[[Any], bytes] | None = None
    is_unary: bool = False
    """Whether it has one request and one response."""
    refused: str | None = None
    """Why its calls are refused, of which anybody may make many: the log sums them up."""


def method_of(handler: Any, kind: type[Message], arrivals: Arrivals) -> Method:  # noqa: ANN401  (its stubs know no grpc.aio)
    """What the handler does, on bytes. What does not parse gRPC would answer with UNKNOWN, and log with a trace."""
    unary, serializer = handler.unary_unary, handler.response_serializer
    if unary is not None:
        return Method(unary if handler.request_deserializer is None else _parsing(unary, kind), serializer, True)
    if handler.unary_stream is not None:
        return Method(_one_request(handler.unary_stream, kind, arrivals), serializer)
    behaviour: Any = handler.stream_stream
    if inspect.isasyncgenfunction(behaviour):
        return Method(_generator(behaviour, kind), serializer)
    return Method(partial(behaviour, None), serializer)


def _parsing(behaviour: Callable[..., Any], kind: type[Message]) -> Behaviour:
    """The behaviour of a handler that takes one request."""

    async def parsing(raw: bytes, context: Context) -> object:
        return await behaviour(await _parse(kind, raw, context), context)

    return parsing


def _one_request(behaviour: Callable[..., Any], kind: type[Message], arrivals: Arrivals) -> Behaviour:
    """The behaviour of a handler that takes one request and writes through its context."""

    async def one_request(context: Context) -> None:
        raw = await only_message(context, arrivals, current_task())
        await behaviour(await _parse(kind, raw, context), context)

    return one_request


def _generator(behaviour: Callable[..., Any], kind: type[Message]) -> Behaviour:
    """The behaviour of a handler that takes an iterator of requests and yields responses."""

    async def requests(context: Context) -> AsyncIterator[Message]:
        while (raw := await context.read()) is not grpc.aio.EOF:
            yield await _parse(kind, raw, context)

    async def generator(context: Context) -> None:
        async with aclosing(behaviour(requests(context), context)) as responses:
            async for response in responses:
                await context.write(response)

    return generator


async def _parse(kind: type[Message], raw: bytes, context: Context) -> Message:
    try:
        return codec.parse(kind, raw)
    except Refusal as refusal:
        await abort(context, refusal)


async def only_message(context: Context, arrivals: Arrivals, task: Task) -> Any:  # noqa: ANN401
    """The message of a call that has one, in this task, which ends if it does not come, or not in time."""
    arrivals.begin(task)
    try:
        message: Any = await context.read()
        arrivals.end(task)
    except BaseException as error:
        try:
            arrivals.__exit__(type(error), error, None)
        except Refusal as refusal:
            bind_contextvars(**told(refusal))
            await abort(context, refusal)
        raise
    if message is grpc.aio.EOF:
        await asyncio.sleep(LAST_WORD)
        await abort(context, refuse(Reason.MALFORMED_MESSAGE, NO_MESSAGE))
    return message


class CountingContext:
    """A context that counts messages as they are read and written; all else is that of gRPC."""

    def __init__(self, context: Context, series: MethodMetrics) -> None:
        self._context = context
        self._series = series

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401
        return getattr(self._context, name)

    async def read(self) -> Any:  # noqa: ANN401
        """The next message."""
        message = await self._context.read()
        if message is not grpc.aio.EOF:
            self._series.received.inc()
        return message

    async def write(self, message: Any) -> None:  # noqa: ANN401
        """Send a message."""
        try:
            await self._context.write(message)
        except grpc.aio.InternalError:
            # The call is over, and word of that is on its way; gRPC would log the write as a fault.
            raise asyncio.CancelledError from None
        self._series.sent.inc()
