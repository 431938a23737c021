"""A call of Serve in the form that the handlers of the service take, which is that of grpc.aio."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any, NoReturn

import grpc
from ray.serve.grpc_util import RayServegRPCContext, gRPCInputStream

Metadata = Sequence[tuple[str, str | bytes]]


class ServeContext:
    """Status and trailers of a call, which Serve takes from its own context and sends with the answer.

    Of what a deployment raises Serve would send no trailers, which have the reason and the details. So whatever ends a
    call is told here, and what is raised goes no further than to whoever made this.
    """

    def __init__(self, context: RayServegRPCContext) -> None:
        self._context = context
        self._trailers: Metadata = ()

    def peer(self) -> str:
        """The other end of the connection, which is a proxy of Serve."""
        peer: str = self._context.peer()
        return peer

    def time_remaining(self) -> None:
        """Nothing: Serve does not hand the deadline on. It cancels the call when that has passed."""

    def code(self) -> grpc.StatusCode | None:
        """The status, if there is one yet."""
        code: Any = self._context.code()
        return code or None

    def trailing_metadata(self) -> Metadata:
        """The trailers so far."""
        return self._trailers

    def set_trailing_metadata(self, metadata: Metadata) -> None:
        """Have these trailers, beside one of Serve."""
        self._trailers = metadata
        trailers: list[Any] = list(metadata)
        self._context.set_trailing_metadata(trailers)

    async def send_initial_metadata(self, _: Metadata) -> None:
        """Do nothing: Serve sends them when it likes."""

    async def abort(self, code: grpc.StatusCode, details: str, trailing_metadata: Metadata = ()) -> NoReturn:
        """End the call with a status.

        Raises:
            grpc.aio.AbortError: Always.
        """
        self._context.set_code(code)
        self._context.set_details(details)
        if trailing_metadata:
            self.set_trailing_metadata(trailing_metadata)
        raise grpc.aio.AbortError


class WholeContext(ServeContext):
    """The context of a call whose request is there as a whole, and whose response is wanted as a whole."""

    def __init__(self, context: RayServegRPCContext, request: bytes) -> None:
        super().__init__(context)
        self._request: bytes | None = request
        self.response: object = None
        """What was written, if it was."""

    async def read(self) -> object:
        """The request, and then the end."""
        request, self._request = self._request, None
        return grpc.aio.EOF if request is None else request

    async def write(self, message: object) -> None:
        """Have this response."""
        self.response = message


class StreamContext(ServeContext):
    """The context of a call whose messages come and go one by one."""

    def __init__(self, context: RayServegRPCContext, requests: gRPCInputStream[bytes]) -> None:
        super().__init__(context)
        self._requests = requests
        self._responses: asyncio.Queue[object] = asyncio.Queue()
        self._room = asyncio.Semaphore(1)

    async def read(self) -> object:
        """The next request, or the end of them."""
        try:
            return await anext(self._requests)
        except StopAsyncIteration:
            if self._requests.is_cancelled():
                # As it would be without Serve, which has it seem to be the end.
                raise asyncio.CancelledError from None
            return grpc.aio.EOF

    async def write(self, message: object) -> None:
        """Have a response sent after those before it; waits while there is one that nobody took."""
        await self._room.acquire()
        self._responses.put_nowait(message)

    async def taken(self) -> object:
        """The next response, for whoever sends it; None at the end."""
        response = await self._responses.get()
        self._room.release()
        return response

    def end(self) -> None:
        """There are no more responses."""
        self._responses.put_nowait(None)
