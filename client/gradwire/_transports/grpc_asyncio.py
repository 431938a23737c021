"""Calls over gRPC, in asyncio."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from time import monotonic
from typing import NamedTuple

import grpc
from numpy.typing import ArrayLike

from gradwire._calls.computation import Computation
from gradwire._calls.deadline import Deadline
from gradwire._calls.examples import Upload
from gradwire._calls.results import Result
from gradwire._calls.steps import Answer, Compute, Step
from gradwire._calls.stream import Stream
from gradwire._errors import GradwireError, OverloadedError, UnavailableError, UsageError, of_call
from gradwire._transports import meaning
from gradwire._transports.address import Address
from gradwire._transports.base_asyncio import perform
from gradwire._transports.channel import Methods, credentials, new_request_id, options
from gradwire._transports.frames import Assembler, final, in_frames, request_frames, whole
from gradwire._transports.grpc_blocking import GrpcTransport
from gradwire._transports.loops import PerLoop
from gradwire._transports.uploads import about


class _Connected(NamedTuple):
    channel: grpc.aio.Channel
    methods: Methods


class AsyncGrpcTransport:
    """A channel of ``grpc.aio`` for each event loop, opened at its first call; streams have a blocking one."""

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connections = PerLoop(partial(self._open, pinned=False))
        self._pinned = PerLoop(partial(self._open, pinned=True))
        """For calls about examples, which a server keeps."""
        self._uploading = PerLoop(asyncio.Lock)
        self._streams = GrpcTransport(address)
        self._closed = False

    async def send(self, step: Step, deadline: Deadline) -> object:
        """See ``AsyncTransport``."""
        if not isinstance(step, Upload):
            return await self._answered(step, deadline)
        try:
            async with asyncio.timeout(deadline.left), self._uploading.get():
                # Unless another task has meanwhile.
                if step.form.uploads != step.seen:
                    return False
                # Reads all of them.
                await asyncio.to_thread(lambda: step.form.examples_id)
                held = await self._answered(step, deadline)
                step.form.uploads += 1
                return held
        except TimeoutError:
            raise deadline.too_late() from None

    async def _answered(self, step: Step, deadline: Deadline) -> object:
        """The answer to a step, at as many attempts as it takes."""
        attempts, request_id = None, new_request_id()
        while True:
            try:
                return await self._sent(step, deadline.left, request_id)
            except (OverloadedError, UnavailableError) as error:
                attempts = attempts or self._streams.attempts(deadline)
                pause = attempts.pause(error)
            await asyncio.sleep(pause)
            if self._closed:
                raise meaning.closed()

    async def _sent(self, step: Step, timeout: float | None, request_id: str) -> object:  # noqa: ASYNC109  (gRPC's deadline)
        """The answer to a step at one attempt."""
        methods, metadata = self._connected(pinned=bool(step.examples_id)), self._address.metadata(request_id)
        metadata += about(step.examples_id)
        start = monotonic()
        try:
            if not isinstance(step, Compute):
                return await methods.call(step, timeout=timeout, metadata=metadata)
            if not in_frames(step):
                response = await methods.compute(whole(step), timeout=timeout, metadata=metadata)
                return Answer(response, {}, request_id)
            assembler = Assembler(request_id)
            answer: Answer | GradwireError | None = None
            async for frame in methods.stream(request_frames(step), timeout=timeout, metadata=metadata):
                answer = assembler.feed(frame) or answer
            return final(answer, self._address.target)
        except grpc.RpcError as error:
            if self._closed:
                raise meaning.closed() from None
            # Of a deadline that passes while the call begins, grpc.aio says that the connection broke.
            if timeout is not None and monotonic() - start >= timeout:
                raise of_call(meaning.too_slow(error.details() or "", self._address), request_id) from None
            raise meaning.error_of(error, self._address, request_id, step) from None
        except (asyncio.CancelledError, grpc.aio.UsageError):
            # Of the task, or of the call, whose channel was closed.
            if self._closed:
                raise meaning.closed() from None
            raise

    async def evaluate(self, computation: Computation, values: Mapping[str, ArrayLike], deadline: Deadline) -> Result:
        """See ``AsyncTransport``."""
        return await perform(computation.run(values), self.send, deadline)

    def stream(self, computation: Computation) -> Stream:
        """See ``AsyncTransport``."""
        return self._streams.stream(computation)

    async def close(self) -> None:
        """See ``AsyncTransport``."""
        self._closed = True
        self._streams.close()
        for loop, connected in (*self._connections.pop_all().items(), *self._pinned.pop_all().items()):
            if loop is asyncio.get_running_loop():
                await connected.channel.close()
            else:
                # Only its own loop may end the calls of a channel; a loop that is closed has none.
                with suppress(RuntimeError):
                    loop.call_soon_threadsafe(_close_soon, connected.channel)

    def _connected(self, *, pinned: bool) -> Methods:
        if self._closed:
            raise UsageError("the client is closed; make another one")
        return (self._pinned if pinned else self._connections).get().methods

    def _open(self, *, pinned: bool) -> _Connected:
        to = self._address
        channel = (
            grpc.aio.secure_channel(to.target, credentials(to), options(to, pinned=pinned))
            if to.tls
            else grpc.aio.insecure_channel(to.target, options(to, pinned=pinned))
        )
        return _Connected(channel, Methods(channel))


_closing: set[asyncio.Task[None]] = set()
"""Channels that are being closed, which loops themselves would forget."""


def _close_soon(channel: grpc.aio.Channel) -> None:
    task = asyncio.ensure_future(channel.close())
    _closing.add(task)
    task.add_done_callback(_closing.discard)
